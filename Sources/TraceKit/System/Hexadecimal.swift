/// Numbers as hexadecimal digits.
enum Hexadecimal {
  /// All 16 digits, lower case.
  static func text(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}
