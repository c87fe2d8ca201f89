/// Where a recording's events go in order: to traces at once, or to memory until a trigger comes.
protocol RecordingSink: AnyObject {
  /// Adds a file to the current table; the number is what its events must use.
  func addFile(_ file: TraceFile) -> UInt32
  /// To be called before the files of an event are resolved. True when all rows were forgotten and must be added anew.
  func prepare(forStart start: Int64) throws(TraceError) -> Bool
  func append(_ event: TraceEvent) throws(TraceError)
  /// Makes what was appended safe.
  func flush() throws(TraceError)
  /// All that starts before `watermark` was appended. Returns as `prepare`.
  func advance(to watermark: Int64) throws(TraceError) -> Bool
  /// Bytes of the traces so far, or of memory.
  var storedBytes: UInt64 { get }
  /// No more events are wanted.
  var isStopped: Bool { get }
  /// Counts of all events so far, for the ledger of the whole recording.
  func currentLedger() -> RecordingLedger
  /// Ends the recording, whose ledger is `ledger`; returns it with what the end added.
  func finish(
    ledger: RecordingLedger, programFailure: String?, change: (inout TraceMetadata) -> Void
  ) throws(TraceError) -> RecordingLedger
  /// What was written; after `finish`, or when it failed.
  func result(ledger: RecordingLedger) -> RecordingOutput.Result
  /// Removes what was written: there is nothing to record after all.
  func discard()
  /// End of a window that is to be written now (CLOCK_MONOTONIC), or nil.
  func dueDump() -> UInt64?
  /// Writes it.
  func dump()
}

extension RecordingSink {
  func dueDump() -> UInt64? { nil }
  func dump() {}
}
