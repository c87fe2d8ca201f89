/// Durations for people and from people.
public enum DurationText {
  /// `870 ns`, `12.3 µs`, `4.56 ms`, `7.89 s`.
  public static func text(_ nanoseconds: Int64) -> String {
    let magnitude = Double(nanoseconds.magnitude)
    let sign = nanoseconds < 0 ? "-" : ""
    if magnitude < 1000 { return "\(nanoseconds) ns" }
    for (unit, scale) in [("µs", 1e3), ("ms", 1e6), ("s", 1e9)] where magnitude < scale * 1000 || unit == "s" {
      let value = magnitude / scale
      return "\(sign)\(Decimal.text(value, digits: value < 10 ? 2 : value < 100 ? 1 : 0)) \(unit)"
    }
    return "\(nanoseconds) ns"
  }

  /// Nanoseconds of `1.5s`, `200ms`, `10us`, `5m`, `1h`, or plain seconds; nil for anything else.
  public static func nanoseconds(_ text: String) -> Int64? {
    let units: [(String, Double)] = [("ns", 1), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)]
    var digits = Substring(text)
    var scale = 1e9
    for (unit, factor) in units where text.hasSuffix(unit) {
      digits = text.dropLast(unit.count)
      scale = factor
      break
    }
    guard let value = Double(digits), value.isFinite, value >= 0, value * scale < 9e18 else { return nil }
    return Int64(value * scale)
  }
}
