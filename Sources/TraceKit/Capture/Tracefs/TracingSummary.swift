/// What a recording through tracefs amounts to, for people and for the trace's metadata.
public struct TracingSummary: Sendable {
  public var output: String
  public var totals = TraceTotals()
  public var traceBytes: UInt64 = 0
  public var excludedEvents: UInt64 = 0
  /// Measured cost of recording one call on this machine, in nanoseconds.
  public var costPerEventNanoseconds: Double?
  /// CPU time of the recorder and length of the recording, in nanoseconds.
  public var cpuNanoseconds: Int64 = 0
  public var durationNanoseconds: Int64 = 0
  /// Nothing that the route sees is missing.
  public var isLossless = true
  /// Figures of the route by name, for `TraceMetadata.summary`.
  public var figures: [String: String] = [:]
  /// Lines of the route for people.
  public var details: [String] = []
  /// Why the trace ends early, when it does.
  public var failure: TraceError?

  /// The recorder's share of one CPU, 0 … number of CPUs.
  public var processorShare: Double { durationNanoseconds > 0 ? Double(cpuNanoseconds) / Double(durationNanoseconds) : 0 }

  /// The lines that a command prints at its end.
  public var lines: [String] {
    let each = totals.events == 0 ? "" : ", \(Decimal.text(Double(traceBytes) / Double(totals.events), digits: 2)) bytes per event"
    var lines = ["\(PrintableText.escaped(output)): \(totals.events) events, \(ByteCount.text(traceBytes))\(each)"]
    lines.append(
      "  \(totals.reads) reads of \(ByteCount.text(totals.bytesRead)), \(totals.writes) writes of \(ByteCount.text(totals.bytesWritten)), "
        + "\(totals.files) files, \(totals.threads) threads, \(Decimal.text(Double(durationNanoseconds) / 1e9, digits: 1)) s")
    lines += details.map { "  \($0)" }
    if excludedEvents > 0 { lines.append("  left out by the filters: \(excludedEvents)") }
    let cost = costPerEventNanoseconds.map { "\(Decimal.text($0, digits: 0)) ns per call, measured on this machine; " } ?? ""
    lines.append("  cost: \(cost)recorder \(Decimal.text(processorShare * 100, digits: 1)) % of one CPU")
    return lines
  }

  /// All figures, for `TraceMetadata.summary`.
  var allFigures: [String: String] {
    var all = figures
    all["excluded_events"] = "\(excludedEvents)"
    all["recorder_cpu_ns"] = "\(cpuNanoseconds)"
    all["duration_ns"] = "\(durationNanoseconds)"
    return all
  }
}
