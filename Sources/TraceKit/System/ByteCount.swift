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

extension ByteCount {
  /// Bytes of `4096`, `512K`, `2MiB`, `1G`, `1.5GiB` (units of 1024, with or without `iB` or `B`); nil for anything else.
  public static func bytes(_ text: String) -> UInt64? {
    var digits = Substring(text.uppercased())
    if digits.hasSuffix("IB") { digits = digits.dropLast(2) } else if digits.hasSuffix("B") { digits = digits.dropLast() }
    let units: [Character: Double] = ["K": 0x1p10, "M": 0x1p20, "G": 0x1p30, "T": 0x1p40]
    var scale = 1.0
    if let unit = digits.last.flatMap({ units[$0] }) {
      scale = unit
      digits = digits.dropLast()
    }
    guard digits.first != ".", digits.allSatisfy({ ("0"..."9").contains($0) || $0 == "." }), let value = Double(digits),
      value * scale < 9e18
    else { return nil }
    return UInt64(value * scale)
  }
}
