/// Writes HTML, and SVG inside it, in which text from outside can only ever be text.
///
/// Names of elements and attributes and the style sheet are `StaticString`s: they stand in this program's source. Everything else is
/// escaped scalar by scalar, in text and in attribute values alike. There is no way to add markup as a string. Template libraries for
/// Swift need all of Foundation, which makes each command some 50 MB larger, and those that escape by `Character` let a quote pass that
/// is followed by a combining mark; this writer is a page long.
struct HTMLWriter {
  typealias Attributes = KeyValuePairs<StaticString, String>

  /// What was written so far.
  private(set) var markup = ""
  private var identifiers = 0

  /// An element with its content.
  mutating func element(_ name: StaticString, _ attributes: Attributes = [:], _ content: (inout HTMLWriter) -> Void) {
    open(name, attributes, end: ">")
    content(&self)
    markup += "</\(name)>"
  }

  /// An element with a text.
  mutating func element(_ name: StaticString, _ attributes: Attributes = [:], text: String) {
    element(name, attributes) { $0.text(text) }
  }

  /// An element without content.
  mutating func element(_ name: StaticString, _ attributes: Attributes) { open(name, attributes, end: "/>") }

  /// Text.
  mutating func text(_ text: String) { markup += Self.escaped(text) }

  /// A style sheet, or what else stands in the source as it is to be written.
  mutating func verbatim(_ source: StaticString) { markup += "\(source)" }

  /// An end of line, for people who read the source.
  mutating func newLine() { markup += "\n" }

  /// A name for an `id` that no other element has.
  mutating func identifier() -> String {
    identifiers += 1
    return "i\(identifiers)"
  }

  private mutating func open(_ name: StaticString, _ attributes: Attributes, end: String) {
    markup += "<\(name)"
    for (name, value) in attributes { markup += " \(name)=\"\(Self.escaped(value))\"" }
    markup += end
  }

  /// Text as HTML shows it, in content and in quoted attribute values. Characters that are not printable become `\xNN`.
  static func escaped(_ text: String) -> String {
    var escaped = ""
    for scalar in PrintableText.visible(text).unicodeScalars {
      switch scalar {
      case "&": escaped += "&amp;"
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "\"": escaped += "&quot;"
      case "'": escaped += "&#39;"
      case "`": escaped += "&#96;"
      default: escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }
}
