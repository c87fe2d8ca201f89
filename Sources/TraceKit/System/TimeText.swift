/// Times and figures as text, and back.
public enum TimeText {
  /// Seconds with nine decimals.
  public static func seconds(_ nanoseconds: Int64) -> String {
    let magnitude = nanoseconds.magnitude
    let fraction = String(magnitude % 1_000_000_000)
    let sign = nanoseconds < 0 ? "-" : ""
    return "\(sign)\(magnitude / 1_000_000_000).\(String(repeating: "0", count: 9 - fraction.count))\(fraction)"
  }

  /// A duration in the largest unit that keeps it at 1 or more: `850 ns`, `12.3 µs`, `4.56 ms`, `7.89 s`.
  public static func duration(_ nanoseconds: Int64) -> String {
    let value = Double(nanoseconds)
    switch nanoseconds.magnitude {
    case 0..<1000: return "\(nanoseconds) ns"
    case 1000..<1_000_000: return significant(value / 1e3) + " µs"
    case 1_000_000..<1_000_000_000: return significant(value / 1e6) + " ms"
    default: return significant(value / 1e9) + " s"
    }
  }

  /// A number of bytes in binary units: `512 B`, `4.00 KiB`, `1.50 GiB`.
  public static func bytes(_ count: UInt64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    guard count >= 1024 else { return "\(count) B" }
    var value = Double(count) / 1024
    var unit = 0
    while value >= 1024, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    return significant(value) + " " + units[unit]
  }

  /// `value` with `decimals` digits after the point, rounded; no exponent.
  public static func fixed(_ value: Double, _ decimals: Int) -> String {
    guard value.isFinite, value.magnitude < 1e15 else { return "\(value)" }
    var scale: UInt64 = 1
    for _ in 0..<decimals { scale *= 10 }
    let scaled = UInt64((value.magnitude * Double(scale)).rounded())
    let sign = value < 0 && scaled > 0 ? "-" : ""
    guard decimals > 0 else { return sign + String(scaled) }
    let fraction = String(scaled % scale)
    return "\(sign)\(scaled / scale).\(String(repeating: "0", count: decimals - fraction.count))\(fraction)"
  }

  private static func significant(_ value: Double) -> String {
    fixed(value, value.magnitude < 9.995 ? 2 : value.magnitude < 99.95 ? 1 : 0)
  }

  /// Nanoseconds of a duration such as `1.5s`, `200ms`, `30us`, `5ns`, `2m` or `1h`; a bare number is seconds. Nil for
  /// anything else and for what does not fit into 64 bits.
  public static func nanoseconds(_ text: String) -> Int64? {
    let units: [(suffix: String, nanoseconds: Double)] = [
      ("ns", 1), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9),
    ]
    let unit = units.first { text.hasSuffix($0.suffix) }
    let number = text.dropLast(unit?.suffix.count ?? 0)
    guard let first = number.first, first.isASCII, first.isNumber || first == "." || first == "-",
      number.allSatisfy({ $0.isASCII && ($0.isNumber || $0 == "." || $0 == "-") }), let value = Double(number)
    else { return nil }
    let scaled = (value * (unit?.nanoseconds ?? 1e9)).rounded()
    return scaled.magnitude < 9.2e18 ? Int64(scaled) : nil
  }
}
