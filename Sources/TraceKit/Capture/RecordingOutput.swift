/// Where a recording's events go, as its options say. The same for every route.
///
/// One thread's at a time: that of `RecordingWriter` until its `join`.
final class RecordingOutput: @unchecked Sendable {
  /// What was written, when all is over.
  struct Result {
    /// Of all traces together.
    var totals = TraceTotals()
    var sizeBytes: UInt64 = 0
    var ledger = RecordingLedger()
    /// Sentences for the summary.
    var notes: [String] = []
  }
  let path: String
  let sample: SampleRule?
  private let sink: any RecordingSink
  private let live: LiveView?

  /// Creates the trace, where one is written from the start. `metadata` names the route (`source`) and the cost of an event
  /// where it was measured.
  /// - Parameter epochNanoseconds: CLOCK_MONOTONIC of the trace's time 0.
  init(
    path: String, metadata: TraceMetadata, options: TraceWriter.Options, long: LongRecordingOptions = LongRecordingOptions(),
    epochNanoseconds: UInt64
  ) throws(TraceError) {
    self.path = path
    sample = long.sample
    var metadata = metadata
    metadata.sample = long.sample
    if long.lastNanoseconds != nil {
      sink = try FlightOutput(path: path, metadata: metadata, options: options, long: long, epochNanoseconds: epochNanoseconds)
    } else {
      sink = try PieceOutput(path: path, metadata: metadata, options: options, long: long)
    }
    live = long.isLive ? try LiveView() : nil
  }

  var isStopped: Bool { sink.isStopped }
  func addFile(_ file: TraceFile) -> UInt32 { sink.addFile(file) }
  func prepare(forStart start: Int64) throws(TraceError) -> Bool { try sink.prepare(forStart: start) }
  func append(_ event: TraceEvent) throws(TraceError) {
    if let live { live.counts.count(event) }
    try sink.append(event)
  }
  func flush() throws(TraceError) { try sink.flush() }
  func advance(to watermark: Int64) throws(TraceError) -> Bool {
    if let live { live.counts.publish(storedBytes: sink.storedBytes) }
    return try sink.advance(to: watermark)
  }
  func currentLedger() -> RecordingLedger { sink.currentLedger() }
  func finish(
    ledger: RecordingLedger, programFailure: String?, change: (inout TraceMetadata) -> Void
  ) throws(TraceError) -> RecordingLedger {
    live?.close()
    return try sink.finish(ledger: ledger, programFailure: programFailure, change: change)
  }
  func result(ledger: RecordingLedger) -> Result {
    live?.close()
    return sink.result(ledger: ledger)
  }
  func discard() {
    live?.close()
    sink.discard()
  }
  func dueDump() -> UInt64? { sink.dueDump() }
  func dump() { sink.dump() }
}
