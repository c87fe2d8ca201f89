/// Turns bytes from outside (paths, names) into text that is safe on a terminal and can be told from every other path.
public enum PrintableText {
  /// `bytes` as text: valid UTF-8 stays; backslashes, control characters (C0, DEL, C1, bidirectional and line separators) and
  /// broken bytes become `\xNN`, byte by byte.
  public static func escaped(_ bytes: [UInt8]) -> String {
    if bytes.allSatisfy({ $0 >= 0x20 && $0 < 0x7F && $0 != 0x5C }) { return String(decoding: bytes, as: UTF8.self) }
    var text = ""
    var position = 0
    while position < bytes.count {
      let length = sequenceLength(bytes, at: position)
      if length > 0, let scalar = String(decoding: bytes[position..<position + length], as: UTF8.self).unicodeScalars.first,
        isPrintable(scalar)
      {
        text.unicodeScalars.append(scalar)
        position += length
      } else {
        for byte in bytes[position..<position + max(length, 1)] { text += hex(byte) }
        position += max(length, 1)
      }
    }
    return text
  }

  /// Text from outside for people, by the same rule.
  public static func escaped(_ text: String) -> String { escaped(Array(text.utf8)) }

  /// Text that may have been escaped already, or comes out of a report that somebody else wrote: what is not printable becomes
  /// `\xNN` as in `escaped`, but backslashes stay, so that showing it twice changes nothing.
  public static func visible(_ text: String) -> String {
    if text.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7F }) { return text }
    var shown = ""
    for scalar in text.unicodeScalars {
      if scalar == "\\" || isPrintable(scalar) {
        shown.unicodeScalars.append(scalar)
      } else {
        for byte in String(scalar).utf8 { shown += hex(byte) }
      }
    }
    return shown
  }

  private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: false
    default: scalar != "\\"
    }
  }

  private static func hex(_ byte: UInt8) -> String {
    let digits = Array("0123456789abcdef")
    return "\\x" + String(digits[Int(byte >> 4)]) + String(digits[Int(byte & 15)])
  }

  /// Length in bytes of the well-formed UTF-8 sequence at `position`, 0 when there is none.
  private static func sequenceLength(_ bytes: [UInt8], at position: Int) -> Int {
    let lead = bytes[position]
    let length = lead < 0x80 ? 1 : lead >= 0xC2 && lead < 0xE0 ? 2 : lead >= 0xE0 && lead < 0xF0 ? 3 : lead >= 0xF0 && lead < 0xF5 ? 4 : 0
    guard length > 0, position + length <= bytes.count else { return 0 }
    let slice = bytes[position..<position + length]
    return String(validating: slice, as: UTF8.self) == nil ? 0 : length
  }
}
