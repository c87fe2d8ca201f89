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
    /// Writes without data that carried a flush: the kernel counts them as writes, the trace has the flush.
    public var flushFrames: UInt64 = 0
    /// Name in /sys/block.
    var name = ""
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
      figures["\(prefix)flush_frames"] = "\(device.flushFrames)"
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

  /// Sentences for the summary, beside the ledger.
  var lines: [String] {
    var lines = devices.map { device in
      let recorded = device.recorded
      return "\(PrintableText.escaped(device.path)): \(recorded.reads) reads, \(recorded.writes) writes (\(device.fua) with FUA, "
        + "\(device.writeZeroes) zeroing), \(recorded.discards) discards, \(recorded.flushes) flushes"
    }
    lines.append("\(kernelEvents) kernel events decoded, \(kernelEventsLost) lost by the kernel")
    if let middle = queueTime.quantile(0.5), let high = queueTime.quantile(0.99), let most = queueTime.quantile(1) {
      lines.append(
        "time in the queue before issue, of \(queueTime.count) requests: p50 \(DurationText.text(middle)), p99 \(DurationText.text(high)), max \(DurationText.text(most))"
      )
    }
    if inFlightAtStart + inFlightAtEnd > 0 {
      lines.append("requests in flight at the start: \(inFlightAtStart), at the end: \(inFlightAtEnd)")
    }
    if requeues + partialCompletions > 0 { lines.append("requeued: \(requeues), completed in parts: \(partialCompletions)") }
    return lines
  }

  /// Adds what the route knows to the ledger of a recording.
  func fill(_ ledger: inout RecordingLedger) {
    // As a rule they were in flight at the start; the kernel may have counted them before.
    let early = inFlightAtStart == 0 ? nil : "\(inFlightAtStart) requests completed whose issue was not seen"
    for device in devices {
      let source = "/sys/class/block/\(device.name)/stat"
      func add(_ counter: String, _ unit: String, _ recorded: UInt64, _ kernel: UInt64?, _ explanation: String? = nil) {
        ledger.coverage.append(
          .init(source: source, counter: counter, unit: unit, recorded: recorded, kernel: kernel, explanation: explanation))
      }
      let (recorded, kernel) = (device.recorded, device.kernel)
      add("reads", "requests", recorded.reads, kernel?.reads, early)
      add("read", "bytes", recorded.readBytes, kernel?.readBytes, early)
      add(
        "writes", "requests", recorded.writes + device.flushFrames, kernel?.writes,
        "\(device.flushFrames) writes without data, whose flushes are recorded as such, are counted on both sides"
          + (early.map { "; \($0)" } ?? ""))
      add("written", "bytes", recorded.writtenBytes, kernel?.writtenBytes, early)
      add("discards", "requests", recorded.discards, kernel?.discards)
      add("flushes", "requests", recorded.flushes, kernel?.flushes)
    }
    ledger.note(blindSpot: "requests passed through to the drive or for zones", count: otherRequests)
    ledger.note(blindSpot: "pages of events that could not be decoded", count: malformedPages)
  }
}
