/// Text in GitHub's flavour of Markdown.
enum MarkdownText {
  /// A text from outside as code, in which nothing is markup, a mention or a link. Backticks and vertical bars, which end code and
  /// table cells, become `\xNN`, as does what is not printable.
  static func code(_ text: String) -> String {
    var shown = ""
    for scalar in PrintableText.visible(text).unicodeScalars {
      switch scalar {
      case "`": shown += "\\x60"
      case "|": shown += "\\x7c"
      default: shown.unicodeScalars.append(scalar)
      }
    }
    // Code can be neither empty nor end in a backslash before the bar of a cell.
    return shown.isEmpty ? "—" : "`\(HTMLWriter.clipped(shown, 200))`"
  }

  /// A table; cells are Markdown. The first column is on the left, the others on the right.
  static func table(_ header: [String], _ rows: [[String]], texts: Set<Int> = [0]) -> String {
    let rule = header.indices.map { texts.contains($0) ? "---" : "---:" }
    return ([header, rule] + rows).map { "| " + $0.joined(separator: " | ") + " |\n" }.joined()
  }

  /// Lines that are folded away until they are asked for.
  static func details(_ summary: StaticString, _ markdown: String) -> String {
    "\n<details><summary>\(summary)</summary>\n\n\(markdown)\n</details>\n"
  }
}
