/// JSON whose keys keep their order and whose "not known" is `null`, never a missing key.
public indirect enum JSONNode: Sendable {
  case null
  case boolean(Bool)
  case integer(Int64)
  case unsigned(UInt64)
  /// Not a number and infinities become `null`.
  case number(Double)
  case text(String)
  case array([JSONNode])
  case object([(String, JSONNode)])

  public static func integer(_ value: Int64?) -> JSONNode { value.map { .integer($0) } ?? .null }
  public static func unsigned(_ value: UInt64?) -> JSONNode { value.map { .unsigned($0) } ?? .null }
  public static func number(_ value: Double?) -> JSONNode { value.map { .number($0) } ?? .null }
  public static func text(_ value: String?) -> JSONNode { value.map { .text($0) } ?? .null }
  public static func boolean(_ value: Bool?) -> JSONNode { value.map { .boolean($0) } ?? .null }

  /// Indented by two blanks, ended by a new line.
  public var formatted: String {
    var text = ""
    write(to: &text, indent: "")
    return text + "\n"
  }

  private func write(to text: inout String, indent: String) {
    switch self {
    case .null: text += "null"
    case .boolean(let value): text += value ? "true" : "false"
    case .integer(let value): text += String(value)
    case .unsigned(let value): text += String(value)
    case .number(let value): text += value.isFinite ? "\(value)" : "null"
    case .text(let value): Self.quote(value, to: &text)
    case .array(let items): Self.write(items.map { ("", $0) }, "[", "]", to: &text, indent: indent)
    case .object(let items): Self.write(items, "{", "}", to: &text, indent: indent, keyed: true)
    }
  }

  private static func write(
    _ items: [(String, JSONNode)], _ open: String, _ close: String, to text: inout String, indent: String, keyed: Bool = false
  ) {
    guard !items.isEmpty else {
      text += open + close
      return
    }
    text += open
    for (position, item) in items.enumerated() {
      text += (position == 0 ? "\n" : ",\n") + indent + "  "
      if keyed {
        quote(item.0, to: &text)
        text += ": "
      }
      item.1.write(to: &text, indent: indent + "  ")
    }
    text += "\n" + indent + close
  }

  private static func quote(_ value: String, to text: inout String) {
    text += "\""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\t": text += "\\t"
      case "\r": text += "\\r"
      case _ where scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value):
        let digits = String(scalar.value, radix: 16)
        text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: text.unicodeScalars.append(scalar)
      }
    }
    text += "\""
  }
}
