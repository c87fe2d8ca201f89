import CTrace
import Glibc

/// One line on stderr, renewed each second: rates, latencies and losses of a running recording.
///
/// On a terminal the line stays in its place, and what the recorded program writes there goes over it.
final class LiveView: @unchecked Sendable {
  let counts = LiveCounts()
  private let started = ctrace_monotonic_ns()
  private let isTerminal = StandardError.isTerminal
  private let stopping: UnsafeMutablePointer<UInt32>
  private var thread: WorkerThread?

  init() throws(TraceError) {
    stopping = .allocate(capacity: 1)
    stopping.initialize(to: 0)
    thread = try WorkerThread { self.run() }
  }

  deinit { stopping.deallocate() }

  /// Takes the line away.
  func close() {
    guard thread != nil else { return }
    ctrace_store_release32(stopping, 1)
    thread?.join()
    thread = nil
    if isTerminal { StandardError.write("\r\u{1b}[K") }
  }

  private func run() {
    var last = (time: ctrace_monotonic_ns(), cpu: ctrace_process_cpu_ns())
    while true {
      let next = last.time + 1_000_000_000
      while ctrace_monotonic_ns() < next {
        if ctrace_load_acquire32(stopping) != 0 { return }
        ctrace_sleep_until(min(next, ctrace_monotonic_ns() + 50_000_000))
      }
      let now = (time: ctrace_monotonic_ns(), cpu: ctrace_process_cpu_ns())
      let taken = counts.take()
      show(
        Self.line(
          elapsedNanoseconds: now.time - started, intervalNanoseconds: now.time - last.time, cpuNanoseconds: now.cpu - last.cpu,
          taken.interval, taken.standing))
      last = now
    }
  }

  private func show(_ line: String) {
    guard isTerminal else { return StandardError.write("trace-record: \(line)\n") }
    let columns = Int(ctrace_terminal_columns(2))
    let shown = columns > 0 ? String(line.prefix(columns - 1)) : line
    // The cursor goes back to the start, so that the program's next line replaces this one.
    StandardError.write("\r\u{1b}[K\(shown)\r")
  }

  /// `12 s | 84211 events/s | 329 MiB/s read, 12 MiB/s written | p50 3.1 µs, p99 120 µs, max 4.2 ms | dropped 0 | 12.1 MiB | 4 % CPU`.
  static func line(
    elapsedNanoseconds: Int64, intervalNanoseconds: Int64, cpuNanoseconds: Int64, _ interval: LiveCounts.Interval,
    _ standing: LiveCounts.Standing
  ) -> String {
    let seconds = Double(max(1, intervalNanoseconds)) / 1e9
    func rate(_ count: UInt64) -> Double { Double(count) / seconds }
    func bytes(_ count: UInt64) -> String { ByteCount.text(UInt64(min(rate(count), 1e18))) + "/s" }
    let latencies = [("p50", 0.5), ("p99", 0.99), ("max", 1)].map { name, share in
      "\(name) \(interval.latency.quantile(share).map(DurationText.text) ?? "-")"
    }
    let unknown = standing.unknownGaps > 0 ? " and \(standing.unknownGaps) gaps of unknown count" : ""
    let parts = [
      "\(elapsedNanoseconds / 1_000_000_000) s", "\(Decimal.text(rate(interval.events), digits: 0)) events/s",
      "\(bytes(interval.bytesRead)) read, \(bytes(interval.bytesWritten)) written", latencies.joined(separator: ", "),
      "dropped \(standing.dropped)\(unknown)", ByteCount.text(standing.storedBytes),
      "\(Decimal.text(Double(max(0, cpuNanoseconds)) / Double(max(1, intervalNanoseconds)) * 100, digits: 0)) % CPU",
    ]
    return parts.joined(separator: " | ")
  }
}
