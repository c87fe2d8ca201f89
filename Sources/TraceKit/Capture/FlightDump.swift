/// Writes a window of events that was in memory as a trace.
struct FlightDump: Sendable {
  var path: String
  var metadata: TraceMetadata
  var options: TraceWriter.Options
  var window: FlightWindow.Snapshot
  /// Interval that is wanted, on the trace's clock, its ends included.
  var startNanoseconds: Int64
  var endNanoseconds: Int64

  /// What was written.
  struct Outcome: Sendable {
    var totals: TraceTotals
    var sizeBytes: UInt64
    var threadKeys: Set<UInt64>
    /// The memory did not reach back to the start.
    var isCut: Bool
  }

  func write() throws(TraceError) -> Outcome {
    let writer = try TraceWriter(path: path, metadata: metadata, options: options)
    let tally = LedgerTally()
    if let cut = window.cutNanoseconds, cut >= startNanoseconds {
      let gap = TraceEvent(
        startNanoseconds: startNanoseconds, operation: .gap, sizeBytes: TraceEvent.unknownSize,
        latencyNanoseconds: cut &- startNanoseconds, result: GapCause.collectorFull.rawValue)
      tally.count(gap)
      try writer.append(gap)
    }
    var rows = Rows(window: window)
    let events = UnsafeMutablePointer<TraceEvent>.allocate(capacity: TraceFormat.maximumBlockEvents)
    defer { events.deallocate() }
    var decoder = EventBlockDecoder()
    for block in window.blocks where block.header.lastTimeNanoseconds >= startNanoseconds {
      guard block.header.firstTimeNanoseconds <= endNanoseconds else { continue }
      let problem = block.payload.withUnsafeBytes { decoder.open(block.header, payload: $0.baseAddress!, count: $0.count) }
      precondition(problem == nil, "a block of our own decodes")
      while decoder.remaining > 0, let count = decoder.read(into: events, limit: TraceFormat.maximumBlockEvents), count > 0 {
        for i in 0..<count where events[i].startNanoseconds >= startNanoseconds && events[i].startNanoseconds <= endNanoseconds {
          events[i].file = rows.row(events[i].file, of: block.generation, writer)
          events[i].otherFile = rows.row(events[i].otherFile, of: block.generation, writer)
          tally.count(events[i])
          try writer.append(events[i])
        }
      }
    }
    var ledger = tally.ledger(route: metadata.source, costPerEventNanoseconds: metadata.costPerEventNanoseconds)
    ledger.startNanoseconds = startNanoseconds
    ledger.endNanoseconds = endNanoseconds
    try writer.updateMetadata { $0.ledger = ledger }
    let totals = try writer.finish(lossless: ledger.losses.isEmpty)
    return Outcome(
      totals: totals, sizeBytes: writer.sizeBytes, threadKeys: writer.threadKeys,
      isCut: window.cutNanoseconds.map { $0 >= startNanoseconds } ?? false)
  }

  /// From the window's numbers to rows of the trace.
  private struct Rows {
    let window: FlightWindow.Snapshot
    private var known: [UInt64: UInt32] = [:]
    /// A file that has served in several generations is one row.
    private var rowOfFile: [TraceFile: UInt32] = [:]

    init(window: FlightWindow.Snapshot) { self.window = window }

    mutating func row(_ file: UInt32, of generation: Int, _ writer: TraceWriter) -> UInt32 {
      guard file != TraceEvent.unknownFile else { return file }
      let key = UInt64(generation) << 32 | UInt64(file)
      if let row = known[key] { return row }
      guard let files = window.files[generation], Int(file) < files.count else { return TraceEvent.unknownFile }
      let row = rowOfFile[files[Int(file)]] ?? writer.addFile(files[Int(file)])
      rowOfFile[files[Int(file)]] = row
      known[key] = row
      return row
    }
  }
}
