/// What `per_cpu/cpuN/stats` counts of a CPU's buffer since it was made.
struct CPUStatistics: Hashable, Sendable {
  /// Events that could not be stored: dropped because the buffer was full, overwritten, or nested too deep.
  var lostEvents: UInt64 = 0
  /// Events that readers took out.
  var readEvents: UInt64 = 0
  /// Events that are still in the buffer.
  var entries: UInt64 = 0

  init() {}

  init(_ text: String) {
    for line in text.split(separator: "\n") {
      guard let colon = line.firstIndex(of: ":"), let value = UInt64(line[line.index(after: colon)...].drop { $0 == " " }) else { continue }
      switch line[..<colon] {
      case "dropped events", "overrun", "commit overrun": lostEvents &+= value
      case "read events": readEvents = value
      case "entries": entries = value
      default: break
      }
    }
  }
}
