/// Numbers of bytes for people, in IEC units.
public enum ByteCount {
  /// `512 B`, `4.0 KiB`, `1.5 GiB`.
  public static func text(_ bytes: UInt64) -> String {
    if bytes < 1024 { return "\(bytes) B" }
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    var value = Double(bytes) / 1024
    var unit = 0
    while value >= 1024, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    return "\(Decimal.text(value, digits: value < 10 ? 2 : 1)) \(units[unit])"
  }

  /// The number of bytes in `4096`, `64K`, `64KiB`, `1M`, `2 GiB`; units are powers of 1024. Nil for anything else.
  public static func bytes(_ text: String) -> UInt64? {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    guard let value = UInt64(digits) else { return nil }
    let unit = text.dropFirst(digits.count).drop { $0 == " " }.lowercased()
    if unit.isEmpty || unit == "b" { return value }
    guard let place = Array("kmgtpe").firstIndex(of: unit.first!), unit.count == 1 || unit.dropFirst() == "ib" else { return nil }
    let (bytes, overflow) = value.multipliedReportingOverflow(by: 1 << (10 * UInt64(place + 1)))
    return overflow ? nil : bytes
  }
}

/// Decimal numbers without locale.
public enum Decimal {
  /// `value` with a fixed number of digits behind the point.
  public static func text(_ value: Double, digits: Int) -> String {
    guard value.isFinite, abs(value) < 1e15 else { return value.isNaN ? "—" : value < 0 ? "-∞" : value.isFinite ? "\(value)" : "∞" }
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let scaled = (abs(value) * scale).rounded()
    let whole = Int64(scaled / scale)
    let fraction = Int64(scaled - Double(whole) * scale)
    let sign = value < 0 && scaled > 0 ? "-" : ""
    if digits == 0 { return "\(sign)\(whole)" }
    let text = String(fraction)
    return "\(sign)\(whole).\(String(repeating: "0", count: digits - text.count))\(text)"
  }
}
