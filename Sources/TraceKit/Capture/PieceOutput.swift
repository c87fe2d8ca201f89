import CTrace
import Glibc

/// A recording that goes to one trace, or to one after another.
final class PieceOutput: RecordingSink {
  let path: String
  private let metadata: TraceMetadata
  private let options: TraceWriter.Options
  private let long: LongRecordingOptions
  private let isRotating: Bool
  private let names: PieceNames
  /// Counts of the whole recording.
  private let whole = LedgerTally()
  private var piece: Piece
  /// Paths of the finished pieces that are still there.
  private var kept: [String] = []
  private var removed: (pieces: Int, events: UInt64) = (0, 0)
  private var eventsOfKept: [UInt64] = []
  private var finished = PieceSums()
  /// Start of the first event that the size limit kept out; nil while there is none.
  private var stopNanoseconds: Int64?
  private let gapBytes: UInt64 = 128

  /// A trace that is being written.
  private final class Piece {
    let number: Int
    let writer: TraceWriter
    let tally: LedgerTally
    /// CLOCK_MONOTONIC, and the recorder's CPU time, when it was begun.
    let startNanoseconds = UInt64(ctrace_monotonic_ns())
    let startCPUNanoseconds = ctrace_process_cpu_ns()
    /// Trace time from which on events belong to the next piece.
    var endNanoseconds = Int64.max
    var isEmpty = true

    init(number: Int, writer: TraceWriter, tally: LedgerTally) {
      self.number = number
      self.writer = writer
      self.tally = tally
    }
  }

  /// Creates the trace, or the first piece. `metadata` names the route (`source`) and the cost of an event where it was measured.
  init(
    path: String, metadata: TraceMetadata, options: TraceWriter.Options, long: LongRecordingOptions
  ) throws(TraceError) {
    self.path = path
    self.metadata = metadata
    self.long = long
    isRotating = long.isRotating
    names = PieceNames(path: path)
    var writerOptions = options
    writerOptions.maximumBytes = long.maximumBytes
    if let bytes = long.rotateBytes ?? long.maximumBytes {
      // A file is full after a block, so blocks are small beside it.
      writerOptions.blockEvents = min(options.blockEvents, max(1024, Int(clamping: bytes / 64)))
    }
    self.options = writerOptions
    if isRotating { try names.clear(overwrite: options.overwrite) }
    piece = try Self.open(
      1, path: isRotating ? names.path(1) : path, metadata: metadata, options: writerOptions, tally: isRotating ? LedgerTally() : whole)
    piece.endNanoseconds = nextBoundary(after: 0)
  }

  private static func open(
    _ number: Int, path: String, metadata: TraceMetadata, options: TraceWriter.Options, tally: LedgerTally
  ) throws(TraceError) -> Piece {
    Piece(number: number, writer: try TraceWriter(path: path, metadata: metadata, options: options), tally: tally)
  }

  // MARK: Writing

  func addFile(_ file: TraceFile) -> UInt32 { piece.writer.addFile(file) }

  /// Goes on to the next piece when an event that starts at `start` does not belong to this one.
  /// - Returns: whether it did; the rows of files that were added are then gone.
  func prepare(forStart start: Int64) throws(TraceError) -> Bool {
    guard isRotating, start >= piece.endNanoseconds || isFull else { return false }
    // A piece that has nothing yet takes what comes late.
    if piece.isEmpty {
      piece.endNanoseconds = nextBoundary(after: start)
      return false
    }
    try rotate(before: start)
    return true
  }

  private var isFull: Bool {
    guard let limit = long.rotateBytes else { return false }
    // The next block may be larger than any so far.
    return piece.writer.sizeBytes + piece.writer.largestBlockBytes * 5 / 4 + piece.writer.closingBytes >= limit
  }

  func append(_ event: TraceEvent) throws(TraceError) {
    guard stopNanoseconds == nil else { return }
    piece.isEmpty = false
    piece.tally.count(event)
    if isRotating { whole.count(event) }
    if event.operation == .gap { piece.writer.closingReserveBytes += gapBytes }
    try piece.writer.append(event)
    if piece.writer.isFull { stop() }
  }

  func flush() throws(TraceError) {
    try piece.writer.flush()
    if piece.writer.isFull { stop() }
  }

  /// All that starts before `watermark` was appended.
  /// - Returns: as `prepare`.
  func advance(to watermark: Int64) throws(TraceError) -> Bool {
    guard isRotating, !piece.isEmpty, watermark >= piece.endNanoseconds, watermark < Int64.max else { return false }
    try rotate(before: watermark)
    return true
  }

  var storedBytes: UInt64 { finished.sizeBytes + piece.writer.sizeBytes }

  /// No more events are wanted: a limit was reached.
  var isStopped: Bool { stopNanoseconds != nil }

  private func stop() {
    guard stopNanoseconds == nil, let limit = long.maximumBytes else { return }
    let refused = piece.writer.takeRefused()
    for event in refused { piece.tally.takeBack(event) }
    stopNanoseconds = refused.first?.startNanoseconds ?? 0
    long.report(
      "\(PrintableText.escaped(path)): recording stops at --max-size \(ByteCount.text(limit)), after "
        + "\(piece.writer.totals.events) events; what is recorded goes on")
  }

  // MARK: Pieces

  private func nextBoundary(after start: Int64) -> Int64 {
    guard let length = long.rotateNanoseconds else { return Int64.max }
    return (max(0, start) / length + 1) * length
  }

  private func rotate(before start: Int64) throws(TraceError) {
    try closePiece(ledger: pieceLedger())
    if let keep = long.keep {
      while kept.count >= max(1, keep) { try removeOldest() }
    }
    let number = piece.number + 1
    piece = try Self.open(number, path: names.path(number), metadata: metadata, options: options, tally: LedgerTally())
    piece.endNanoseconds = nextBoundary(after: start)
  }

  private func pieceLedger() -> RecordingLedger {
    var ledger = piece.tally.ledger(route: metadata.source, costPerEventNanoseconds: metadata.costPerEventNanoseconds)
    ledger.recorderCPUNanoseconds = UInt64(max(0, ctrace_process_cpu_ns() - piece.startCPUNanoseconds))
    return ledger
  }

  private func closePiece(ledger: RecordingLedger, change: (inout TraceMetadata) -> Void = { _ in }) throws(TraceError) {
    var ledger = ledger
    if isRotating {
      ledger.startNanoseconds = piece.writer.totals.firstTimeNanoseconds
      ledger.endNanoseconds = piece.writer.totals.lastTimeNanoseconds
    }
    let number = isRotating ? piece.number : nil
    try piece.writer.updateMetadata { metadata in
      metadata.ledger = ledger
      metadata.piece = number
      change(&metadata)
    }
    try piece.writer.finish(lossless: ledger.losses.isEmpty)
    finished.add(piece.writer)
    kept.append(piece.writer.path)
    eventsOfKept.append(piece.writer.totals.events)
  }

  private func removeOldest() throws(TraceError) {
    let oldest = kept.removeFirst()
    guard unlink(oldest) == 0 || errno == ENOENT else { throw TraceError(path: oldest, "remove it", errno: errno) }
    removed.pieces += 1
    removed.events += eventsOfKept.removeFirst()
  }

  // MARK: The end

  /// Removes what was written: there is nothing to record after all.
  func discard() { for path in kept + [piece.writer.path] { unlink(path) } }

  /// The counts so far, of all pieces.
  func currentLedger() -> RecordingLedger {
    whole.ledger(route: metadata.source, costPerEventNanoseconds: metadata.costPerEventNanoseconds)
  }

  /// Writes the ledger and closes the trace. `ledger` is that of the whole recording; an earlier piece has its own already.
  func finish(
    ledger: RecordingLedger, programFailure: String?, change: (inout TraceMetadata) -> Void
  ) throws(TraceError) -> RecordingLedger {
    var ledger = ledger
    if let start = stopNanoseconds {
      piece.writer.allowClosing()
      let end = ledger.endNanoseconds ?? start
      let gap = TraceEvent(
        startNanoseconds: start, operation: .gap, sizeBytes: TraceEvent.unknownSize, latencyNanoseconds: max(0, end &- start),
        result: GapCause.stopped.rawValue)
      ledger.note(gap: gap)
      try piece.writer.append(gap)
    }
    guard isRotating else {
      try closePiece(ledger: ledger, change: change)
      return ledger
    }
    var last = pieceLedger()
    (last.coverage, last.blindSpots, last.sampling) = (ledger.coverage, ledger.blindSpots, ledger.sampling)
    try closePiece(ledger: last, change: change)
    return ledger
  }

  /// What was written; after `finish`, or when it failed.
  func result(ledger: RecordingLedger) -> RecordingOutput.Result {
    var sums = finished
    if kept.last != piece.writer.path { sums.add(piece.writer) }
    var result = RecordingOutput.Result(totals: sums.totals, sizeBytes: sums.sizeBytes, ledger: ledger)
    if isRotating, let first = kept.first, let last = kept.last {
      let names = first == last ? PrintableText.escaped(first) : "\(PrintableText.escaped(first)) … \(PrintableText.escaped(last))"
      result.notes.append("\(kept.count == 1 ? "one piece" : "\(kept.count) pieces"): \(names)")
      if removed.pieces > 0, let keep = long.keep {
        result.notes.append("removed by --keep \(keep): \(removed.pieces) older pieces with \(removed.events) events")
      }
    }
    if stopNanoseconds != nil { result.notes.append("stopped at --max-size; what came later is not recorded") }
    return result
  }
}

/// Totals of several traces.
struct PieceSums {
  private(set) var totals = TraceTotals()
  private(set) var sizeBytes: UInt64 = 0
  private var threads: Set<UInt64> = []

  mutating func add(_ writer: TraceWriter) { add(writer.totals, sizeBytes: writer.sizeBytes, threads: writer.threadKeys) }

  mutating func add(_ more: TraceTotals, sizeBytes bytes: UInt64, threads keys: Set<UInt64>) {
    if totals.events == 0 { totals.firstTimeNanoseconds = more.firstTimeNanoseconds }
    totals.lastTimeNanoseconds = max(totals.lastTimeNanoseconds, more.lastTimeNanoseconds)
    totals.events += more.events
    totals.gaps += more.gaps
    totals.lossless = totals.lossless && more.lossless
    totals.reads += more.reads
    totals.writes += more.writes
    totals.bytesRead &+= more.bytesRead
    totals.bytesWritten &+= more.bytesWritten
    totals.files = max(totals.files, more.files)
    threads.formUnion(keys)
    totals.threads = UInt64(threads.count)
    sizeBytes += bytes
  }
}
