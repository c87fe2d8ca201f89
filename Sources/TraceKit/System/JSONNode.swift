/// JSON whose keys keep their order and whose "not known" is `null`, never a missing key.
public indirect enum JSONNode: Sendable {
  case null
  case boolean(Bool?)
  case integer(Int64?)
  case unsigned(UInt64?)
  /// Not a number and infinities become `null`.
  case number(Double?)
  case text(String?)
  case array([JSONNode])
  case object([(String, JSONNode)])

  /// Indented by two blanks, ended by a new line.
  public var formatted: String {
    var text = ""
    write(to: &text, indent: "")
    return text + "\n"
  }

  private func write(to text: inout String, indent: String) {
    switch self {
    case .null: text += "null"
    case .boolean(let value): text += value.map { $0 ? "true" : "false" } ?? "null"
    case .integer(let value): text += value.map { String($0) } ?? "null"
    case .unsigned(let value): text += value.map { String($0) } ?? "null"
    case .number(let value): text += value.map { $0.isFinite ? "\($0)" : "null" } ?? "null"
    case .text(let value): if let value { Self.quote(value, to: &text) } else { text += "null" }
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
