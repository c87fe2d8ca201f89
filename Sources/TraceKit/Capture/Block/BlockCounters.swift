/// What the block route counted, as plain values.
public struct BlockCounters: Sendable {
  /// Of one device.
  public struct Device: Sendable {
    public var path: String
    /// Finished requests as the trace has them, counted as the kernel's `stat` does.
    public var recorded = BlockStatistics()
    /// The same by the kernel's count; nil where it is not known, and for stacked devices, which count otherwise.
    public var kernel: BlockStatistics?
    public var fua: UInt64 = 0
    public var writeZeroes: UInt64 = 0
  }
  public var devices: [Device] = []
  /// Time between a request's making and its issue to the driver, in nanoseconds; of requests that both were seen of.
  public var queueTime = LatencyHistogram()
  public var requeues: UInt64 = 0
  public var partialCompletions: UInt64 = 0
  /// Completions of requests that were issued before the recording.
  public var inFlightAtStart: UInt64 = 0
  /// Requests that were issued and had not completed at the end.
  public var inFlightAtEnd: UInt64 = 0
  public var kernelEvents: UInt64 = 0
  public var kernelEventsLost: UInt64 = 0
  public var malformedPages: UInt64 = 0
  /// Requests of other kinds (passed through to the drive, zones), which are not recorded.
  public var otherRequests: UInt64 = 0

  public init() {}

  /// By name, for `TraceMetadata.summary`.
  var figures: [String: String] {
    var figures: [String: String] = [
      "kernel_events": "\(kernelEvents)", "kernel_events_lost": "\(kernelEventsLost)", "malformed_pages": "\(malformedPages)",
      "requeues": "\(requeues)", "partial_completions": "\(partialCompletions)", "in_flight_at_attach": "\(inFlightAtStart)",
      "in_flight_at_end": "\(inFlightAtEnd)", "other_requests": "\(otherRequests)", "queue_times": "\(queueTime.count)",
    ]
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
      if let value = queueTime.quantile(quantile) { figures["queue_time_\(name)_ns"] = "\(value)" }
    }
    for (number, device) in devices.enumerated() {
      let prefix = devices.count == 1 ? "" : "device\(number)_"
      Self.add(device.recorded, "\(prefix)recorded", to: &figures)
      if let kernel = device.kernel { Self.add(kernel, "\(prefix)kernel", to: &figures) }
      figures["\(prefix)fua"] = "\(device.fua)"
      figures["\(prefix)write_zeroes"] = "\(device.writeZeroes)"
    }
    return figures
  }

  private static func add(_ statistics: BlockStatistics, _ prefix: String, to figures: inout [String: String]) {
    figures["\(prefix)_reads"] = "\(statistics.reads)"
    figures["\(prefix)_read_bytes"] = "\(statistics.readBytes)"
    figures["\(prefix)_writes"] = "\(statistics.writes)"
    figures["\(prefix)_written_bytes"] = "\(statistics.writtenBytes)"
    figures["\(prefix)_discards"] = "\(statistics.discards)"
    figures["\(prefix)_discarded_bytes"] = "\(statistics.discardedBytes)"
    figures["\(prefix)_flushes"] = "\(statistics.flushes)"
  }

  /// For people.
  var lines: [String] {
    var lines = devices.map { Self.line($0) }
    let remedy = kernelEventsLost > 0 ? " (the kernel's buffers were full; --buffer-size gives them more room)" : ""
    lines.append("\(kernelEvents) kernel events, lost: \(kernelEventsLost)\(remedy)")
    if let middle = queueTime.quantile(0.5), let high = queueTime.quantile(0.99), let most = queueTime.quantile(1) {
      lines.append(
        "time in the queue before issue, of \(queueTime.count) requests: p50 \(DurationText.text(middle)), p99 \(DurationText.text(high)), max \(DurationText.text(most))"
      )
    }
    if inFlightAtStart + inFlightAtEnd > 0 {
      lines.append("requests in flight at the start: \(inFlightAtStart), at the end: \(inFlightAtEnd)")
    }
    if requeues + partialCompletions > 0 { lines.append("requeued: \(requeues), completed in parts: \(partialCompletions)") }
    if otherRequests > 0 { lines.append("requests of other kinds, not recorded: \(otherRequests)") }
    return lines
  }

  private static func line(_ device: Device) -> String {
    let recorded = device.recorded
    var text =
      "\(PrintableText.escaped(device.path)): \(recorded.reads) reads, \(recorded.writes) writes, \(recorded.discards) discards, \(recorded.flushes) flushes"
    if device.fua > 0 { text += ", \(device.fua) with FUA" }
    guard let kernel = device.kernel else { return text }
    if kernel == recorded { return text + "; equal to the kernel's stat" }
    return text
      + "; by the kernel's stat \(kernel.reads) reads of \(kernel.readBytes) bytes (recorded \(recorded.readBytes)), \(kernel.writes) writes of "
      + "\(kernel.writtenBytes) bytes (recorded \(recorded.writtenBytes)), \(kernel.discards) discards, \(kernel.flushes) flushes"
  }
}
