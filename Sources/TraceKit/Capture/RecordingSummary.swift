/// What a recording amounts to, for people and for the trace's metadata.
public struct RecordingSummary: Sendable {
  /// Bytes of a direction that were recorded, and that the kernel counted (rchar and wchar of /proc/PID/io).
  public struct Coverage: Hashable, Sendable {
    public var recordedBytes: UInt64
    public var kernelBytes: UInt64?

    /// Recorded share of what the kernel counted, 0…1; nil when the kernel's number is not known.
    public var share: Double? {
      guard let kernelBytes else { return nil }
      return kernelBytes == 0 ? 1 : min(1, Double(recordedBytes) / Double(kernelBytes))
    }
    /// Bytes that the kernel counted and the trace doesn't have.
    public var missingBytes: UInt64? { kernelBytes.map { $0 > recordedBytes ? $0 - recordedBytes : 0 } }
  }
  public var output: String
  public var totals: TraceTotals
  public var traceBytes: UInt64
  public var processes: Int
  public var droppedEvents: UInt64
  public var excludedEvents: UInt64
  /// Records that a kill cut short, and calls of threads that could get no ring.
  public var killedInCall: UInt64
  public var unrecordedCalls: UInt64
  public var reads: Coverage
  public var writes: Coverage
  public var costPerEventNanoseconds: Double?
  public var mappings: Int
  public var stdioStreams: Int
  var blindSpots: PreloadBlindSpots
  /// Processes that the program left running.
  public var stillRunning: Int
  /// Why the trace ends early, when it does.
  public var failure: TraceError?

  /// Nothing that the recorder could see is missing.
  public var isLossless: Bool {
    droppedEvents == 0 && killedInCall == 0 && unrecordedCalls == 0 && failure == nil
  }

  /// Figures by name, for `TraceMetadata.summary`.
  public var figures: [String: String] {
    var figures = [
      "dropped_events": "\(droppedEvents)", "excluded_events": "\(excludedEvents)", "processes": "\(processes)",
      "killed_in_call": "\(killedInCall)", "unrecorded_calls": "\(unrecordedCalls)",
      "recorded_read_bytes": "\(reads.recordedBytes)", "recorded_written_bytes": "\(writes.recordedBytes)",
      "file_mappings": "\(mappings)", "stdio_streams": "\(stdioStreams)", "processes_still_running": "\(stillRunning)",
    ]
    for spot in blindSpots.spots { figures["blind: \(spot.name)"] = "\(spot.count)" }
    if let bytes = reads.kernelBytes { figures["kernel_read_bytes"] = "\(bytes)" }
    if let bytes = writes.kernelBytes { figures["kernel_written_bytes"] = "\(bytes)" }
    return figures
  }

  /// The lines that a command prints at its end.
  public var lines: [String] {
    var lines: [String] = []
    let each = totals.events == 0 ? "" : ", \(Decimal.text(Double(traceBytes) / Double(totals.events), digits: 2)) bytes per event"
    lines.append("\(PrintableText.escaped(output)): \(totals.events) events, \(ByteCount.text(traceBytes))\(each)")
    lines.append(
      "  \(totals.reads) reads of \(ByteCount.text(totals.bytesRead)), \(totals.writes) writes of \(ByteCount.text(totals.bytesWritten)), "
        + "\(count(Int(totals.files), "file")), \(processes == 1 ? "1 process" : "\(processes) processes"), "
        + count(Int(totals.threads), "thread"))
    lines.append(lossLine)
    if let line = coverageLine { lines.append(line) }
    if let cost = costPerEventNanoseconds {
      lines.append("  cost: \(Decimal.text(cost, digits: 0)) ns per event, measured on this machine")
    }
    lines += blindSpots.lines
    if stillRunning > 0 {
      lines.append(
        "  \(stillRunning) processes that the program started still run; from here on they are not recorded (--wait-all waits for them)")
    }
    return lines
  }

  private var lossLine: String {
    let remedy = droppedEvents > 0 ? " (rings were full; --ring-size gives more room, --on-full block waits)" : ""
    var parts = ["  dropped: \(droppedEvents)\(remedy)"]
    if killedInCall > 0 { parts.append("killed inside a call: \(killedInCall)") }
    if unrecordedCalls > 0 { parts.append("calls of threads without a ring: \(unrecordedCalls) (no room in the run directory; --run-dir)") }
    if excludedEvents > 0 { parts.append("left out by the filters: \(excludedEvents)") }
    return parts.joined(separator: ", ")
  }

  private var coverageLine: String? {
    guard let read = reads.share, let written = writes.share, let readKernel = reads.kernelBytes, let writtenKernel = writes.kernelBytes
    else { return nil }
    let shares =
      "\(percent(read)) of \(ByteCount.text(readKernel)) read, \(percent(written)) of \(ByteCount.text(writtenKernel)) written"
    let missing = (reads.missingBytes ?? 0) + (writes.missingBytes ?? 0)
    guard missing > 0 else { return "  coverage by /proc/PID/io: \(shares)" }
    var causes = ["calls inside libc: the loader, locales, names"]
    if killedInCall + droppedEvents + unrecordedCalls > 0 { causes.append("the loss above") }
    return "  coverage by /proc/PID/io: \(shares); not seen: \(ByteCount.text(missing)) (\(causes.joined(separator: ", ")))"
  }

  private func count(_ number: Int, _ thing: String) -> String { "\(number) \(thing)\(number == 1 ? "" : "s")" }

  private func percent(_ share: Double) -> String { "\(Decimal.text((share * 1000).rounded(.down) / 10, digits: 1)) %" }
}
