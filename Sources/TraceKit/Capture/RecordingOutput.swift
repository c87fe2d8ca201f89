import CTrace

/// Where a recording's events go, in order: the trace that is being written, and the counts for its ledger.
///
/// One thread's at a time: that of `RecordingWriter` until its `join`.
final class RecordingOutput: @unchecked Sendable {
  /// Counts of one operation; plain memory, since every event changes one.
  struct Tally: BitwiseCopyable {
    var events: UInt64 = 0
    var errors: UInt64 = 0
    var bytes: UInt64 = 0
  }
  let path: String
  private let writer: TraceWriter
  private let metadata: TraceMetadata
  /// By raw value of the operation.
  private let tallies: UnsafeMutablePointer<Tally>
  private var ledger = RecordingLedger()

  /// Creates the trace. `metadata` names the route (`source`) and the cost of an event where it was measured.
  init(path: String, metadata: TraceMetadata, options: TraceWriter.Options) throws(TraceError) {
    self.path = path
    self.metadata = metadata
    writer = try TraceWriter(path: path, metadata: metadata, options: options)
    tallies = .allocate(capacity: 256)
    tallies.initialize(repeating: Tally(), count: 256)
  }

  deinit { tallies.deallocate() }

  var totals: TraceTotals { writer.totals }
  var sizeBytes: UInt64 { writer.sizeBytes }

  func addFile(_ file: TraceFile) -> UInt32 { writer.addFile(file) }

  func append(_ event: TraceEvent) throws(TraceError) {
    if event.operation == .gap {
      ledger.note(gap: event)
    } else {
      let tally = tallies + Int(event.operation.rawValue)
      tally.pointee.events &+= 1
      if event.result > 0, event.operation.movesBytes { tally.pointee.bytes &+= UInt64(event.result) }
      if event.result < 0, event.result != TraceEvent.unknownResult { tally.pointee.errors &+= 1 }
    }
    try writer.append(event)
  }

  func flush() throws(TraceError) { try writer.flush() }

  /// What was counted so far.
  func currentLedger() -> RecordingLedger {
    var current = ledger
    var route = RecordingLedger.Route(name: metadata.source, costPerEventNanoseconds: metadata.costPerEventNanoseconds)
    for operation in TraceOperation.allCases {
      let tally = tallies[Int(operation.rawValue)]
      guard tally.events > 0 else { continue }
      route.operations.append(
        RecordingLedger.OperationCount(
          operation: operation.name, events: tally.events, errors: tally.errors, bytes: tally.bytes))
    }
    current.routes = [route]
    return current
  }

  /// Writes the ledger and closes the trace.
  func finish(ledger: RecordingLedger, change: (inout TraceMetadata) -> Void) throws(TraceError) {
    try writer.updateMetadata { metadata in
      metadata.ledger = ledger
      change(&metadata)
    }
    try writer.finish(lossless: ledger.losses.isEmpty)
  }
}

extension TraceOperation {
  /// A result that is not negative is a number of bytes that moved.
  var movesBytes: Bool {
    switch self {
    case .read, .write, .send, .receive, .copyRange, .sendfile, .splice: true
    default: false
    }
  }
}
