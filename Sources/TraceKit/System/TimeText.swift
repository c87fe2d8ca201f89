import Glibc

/// Points in time as text; `DurationText` is for durations.
public enum TimeText {
  /// Seconds with nine decimals.
  public static func seconds(_ nanoseconds: Int64) -> String {
    let magnitude = nanoseconds.magnitude
    let fraction = String(magnitude % 1_000_000_000)
    let sign = nanoseconds < 0 ? "-" : ""
    return "\(sign)\(magnitude / 1_000_000_000).\(String(repeating: "0", count: 9 - fraction.count))\(fraction)"
  }

  /// `2026-11-21 08:36:44 UTC`, from nanoseconds since 1970.
  public static func utc(_ unixNanoseconds: Int64) -> String {
    var seconds = time_t(unixNanoseconds / 1_000_000_000)
    var parts = tm()
    guard gmtime_r(&seconds, &parts) != nil else { return "\(seconds) s since 1970" }
    func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : String(number) }
    return "\(Int(parts.tm_year) + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
      + " \(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) UTC"
  }
}
