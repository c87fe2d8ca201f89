/// Numbers of bytes for people, in IEC units unless SI units are asked for.
public enum ByteCount {
  /// `512 B`, `4.00 KiB`, `1.50 GiB`.
  public static func text(_ bytes: UInt64) -> String { text(bytes, .iec) }

  /// `4.00 KiB`, or `4.10 kB` in SI units.
  public static func text(_ bytes: UInt64, _ units: ByteUnits) -> String {
    if bytes < UInt64(units.base) { return "\(bytes) B" }
    var value = Double(bytes) / units.base
    var unit = 0
    while value >= units.base, unit < units.names.count - 1 {
      value /= units.base
      unit += 1
    }
    return "\(Decimal.text(value, digits: value < 10 ? 2 : 1)) \(units.names[unit])"
  }

  /// Bytes per second: `229.2 MB/s`, `218.6 MiB/s`.
  public static func rate(_ bytesPerSecond: Double, _ units: ByteUnits = .si) -> String {
    guard bytesPerSecond.isFinite, bytesPerSecond >= 0, bytesPerSecond < 1e19 else { return "—" }
    return text(UInt64(bytesPerSecond.rounded()), units) + "/s"
  }
}

/// Multiples of bytes: powers of 1024 (IEC) or of 1000 (SI).
public enum ByteUnits: String, CaseIterable, Sendable {
  case iec, si

  var base: Double { self == .iec ? 1024 : 1000 }
  var names: [String] {
    self == .iec ? ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] : ["kB", "MB", "GB", "TB", "PB", "EB"]
  }
}

/// In which units sizes and rates are shown.
public struct UnitChoice: Sendable {
  public var sizes: ByteUnits
  public var rates: ByteUnits

  /// - Parameter units: for sizes and rates alike; without it sizes are in IEC units and rates in SI units.
  public init(_ units: ByteUnits? = nil) {
    sizes = units ?? .iec
    rates = units ?? .si
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
    // Beyond this the digits behind the point are not in a Double.
    if scaled >= 9e15, digits > 0 { return text(value, digits: 0) }
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
