/// The parts that pages are made of.
extension HTMLWriter {
  /// A whole document. Nothing in it may be loaded or run: the policy permits the style sheet inside and pictures inside, nothing else.
  static func page(title: String, _ body: (inout HTMLWriter) -> Void) -> String {
    var writer = HTMLWriter()
    writer.verbatim("<!DOCTYPE html>\n")
    writer.element("html", ["lang": "en"]) { html in
      html.element("head") { head in
        head.element("meta", ["charset": "utf-8"])
        head.element(
          "meta",
          [
            "http-equiv": "Content-Security-Policy",
            "content": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'",
          ])
        head.element("meta", ["name": "viewport", "content": "width=device-width, initial-scale=1"])
        head.element("meta", ["name": "color-scheme", "content": "light dark"])
        head.element("meta", ["name": "generator", "content": "trace-replay \(ToolVersion.current)"])
        head.element("link", ["rel": "icon", "href": "data:,"])
        head.element("title", text: title)
        head.element("style") { $0.verbatim(PageStyle.sheet) }
      }
      html.newLine()
      html.element("body") { body(&$0) }
    }
    writer.newLine()
    return writer.markup
  }

  /// A heading that opens a part of the page.
  mutating func heading(_ title: String) {
    newLine()
    element("h2", text: title)
  }

  /// How a verdict looks.
  enum Tone: Sendable {
    case good, bad, neutral

    var style: String {
      switch self {
      case .good: "good"
      case .bad: "bad"
      case .neutral: ""
      }
    }
  }

  /// What the page says in one line, with its reasons.
  mutating func verdict(_ sign: String, _ word: String, _ explanation: String, reasons: [String], _ tone: Tone) {
    element("div", ["class": "verdict \(tone.style)", "role": "status"]) { box in
      box.element("div", ["class": "sign", "aria-hidden": "true"], text: sign)
      box.element("div") { words in
        words.element("div", ["class": "word"], text: word)
        words.element("div", text: explanation)
        guard !reasons.isEmpty else { return }
        words.element("ul") { list in
          for reason in reasons.prefix(20) { list.element("li", text: Self.clipped(reason, 500)) }
          if reasons.count > 20 { list.element("li", text: "and \(reasons.count - 20) more") }
        }
      }
    }
  }

  /// The figures that people look for first.
  mutating func tiles(_ figures: [(name: String, value: String)]) {
    element("div", ["class": "tiles"]) { tiles in
      for figure in figures {
        tiles.element("div", ["class": "tile"]) { tile in
          tile.element("b", text: figure.value)
          tile.element("span", text: figure.name)
        }
      }
    }
  }

  /// A table of names and values.
  mutating func conditions(_ rows: [(name: String, value: String)]) {
    element("div", ["class": "scroll"]) { box in
      box.element("table", ["class": "conditions"]) { table in
        table.element("tbody") { body in
          for row in rows {
            body.element("tr") { line in
              line.element("th", ["scope": "row"], text: Self.clipped(row.name, 60))
              line.element("td", text: Self.clipped(row.value, 300))
            }
          }
        }
      }
    }
  }

  /// Most rows of any table.
  static let maximumRows = 100

  /// A table.
  mutating func table(_ table: PageTable) {
    element("div", ["class": "scroll"]) { box in
      box.element("table") { element in
        element.element("thead") { head in
          head.element("tr") { row in
            for (i, name) in table.header.enumerated() {
              row.element("th", ["scope": "col", "class": table.texts.contains(i) ? "" : "n"], text: name)
            }
          }
        }
        element.element("tbody") { body in
          for cells in table.rows.prefix(Self.maximumRows) {
            body.element("tr") { row in
              for (i, cell) in cells.enumerated() {
                let tone = i < cells.count ? table.tone(i, cell) : .neutral
                let style = [table.texts.contains(i) ? (cell.count > 40 ? "w" : "") : "n", tone.style].filter { !$0.isEmpty }
                row.element("td", ["class": style.joined(separator: " ")], text: Self.clipped(cell, 160))
              }
            }
          }
        }
      }
    }
    if table.rows.count > Self.maximumRows {
      element("p", ["class": "soft"], text: "and \(table.rows.count - Self.maximumRows) more rows, which the JSON report has")
    }
  }

  /// A table that is folded away until it is asked for. On paper, where nobody can ask, short ones are open.
  mutating func details(_ summary: String, _ table: PageTable) {
    element("details", ["class": table.rows.count > 16 ? "long" : ""]) { details in
      details.element("summary", text: summary)
      details.table(table)
    }
  }

  /// A figure with its title, a description for those who don't see it, and its numbers as a table.
  mutating func figure(
    _ title: String, _ description: String, _ area: PlotArea, table: PageTable? = nil, _ draw: (inout HTMLWriter) -> Void
  ) {
    newLine()
    element("figure") { figure in
      figure.element("figcaption") { caption in
        caption.element("b", text: title)
        caption.text(". " + description)
      }
      let (titleName, descriptionName) = (figure.identifier(), figure.identifier())
      figure.element("div", ["class": "plot"]) { box in
        box.element(
          "svg",
          [
            "xmlns": "http://www.w3.org/2000/svg", "viewBox": "0 0 \(Self.coordinate(area.width)) \(Self.coordinate(area.height))",
            "role": "img", "aria-labelledby": "\(titleName) \(descriptionName)",
          ]
        ) { picture in
          picture.element("title", ["id": titleName], text: title)
          picture.element("desc", ["id": descriptionName], text: description)
          draw(&picture)
        }
      }
      if let table { figure.details("Table", table) }
    }
  }

  /// The beginning and the end of a text that is too long to be shown: names of files can be of any length.
  static func clipped(_ text: String, _ limit: Int) -> String {
    guard text.utf8.count > limit else { return text }
    let scalars = Array(PrintableText.visible(text).unicodeScalars)
    guard scalars.count > limit else { return text }
    let half = limit / 2
    return String(String.UnicodeScalarView(scalars.prefix(half))) + " … " + String(String.UnicodeScalarView(scalars.suffix(half)))
  }
}

/// Cells of a table; all are text.
struct PageTable {
  var header: [String]
  var rows: [[String]]
  /// Columns that hold words and stand on the left; the others hold numbers.
  var texts: Set<Int> = [0]
  /// Columns whose words are verdicts.
  var verdicts: [Int: (String) -> HTMLWriter.Tone] = [:]

  func tone(_ column: Int, _ cell: String) -> HTMLWriter.Tone { verdicts[column]?(cell) ?? .neutral }
}
