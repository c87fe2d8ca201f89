import CTrace

/// A trace as a source of latencies by request: the log of a replay, whose events carry the numbers of the requests that they
/// replayed, or a recording, whose own numbers those are. One thread at a time.
final class MeasuredTrace: @unchecked Sendable {
  let path: String
  let reader: TraceReader
  let isLog: Bool
  /// Digest of the recording that the requests are of.
  let digest: String?
  private var builder: RequestBuilder

  /// - Throws: when it is no trace.
  init(path: String) throws(TraceError) {
    self.path = path
    reader = try TraceReader(path: path)
    isLog = reader.metadata.source == "replay"
    digest = isLog ? reader.metadata.replayedDigest : reader.totals?.digest.hexadecimal
    // The null engine takes every operation: what other engines leave out is their report's.
    let engine = try EngineRegistry.engine(NullEngine.name)
    builder = RequestBuilder(filter: EventFilter(ReplayOptions(), files: reader.files, epoch: 0), files: reader.files, engine: engine)
  }

  /// Opens several.
  static func open(_ paths: [String]) throws(TraceError) -> [MeasuredTrace] {
    var traces: [MeasuredTrace] = []
    for path in paths { traces.append(try MeasuredTrace(path: path)) }
    return traces
  }

  /// One request of the trace with a known latency.
  struct Request {
    /// Number in the recording.
    var number: UInt64
    /// Counts the requests that are replayed from 0, as reports do; in a log, where it is not known, the position in time.
    var ordinal: UInt64
    var kind: IOOperation.Kind
    /// At least 1.
    var latencyNanoseconds: Int64
  }

  /// Calls `body` for every request that was replayed (would be, for a recording) without failing and has a latency.
  /// - Parameter columns: besides those that say which requests these are, what `body` reads of a log's events; a recording's are
  ///   whole.
  @inline(__always)
  func forEach(_ columns: EventColumns = .outcomes, _ body: (Request, UnsafePointer<TraceEvent>) -> Void) throws(TraceError) {
    reader.wantedColumns = isLog ? columns : .all
    defer { reader.wantedColumns = .all }
    try reader.rewind()
    let scratch = RequestBatch()
    let batch = EventBatch()
    var builder = self.builder
    var position: UInt64 = 0
    while try reader.next(into: batch) {
      for i in 0..<batch.count {
        let event = UnsafePointer(batch.events + i)
        var number = batch.firstEvent &+ UInt64(i)
        if isLog {
          guard event.pointee.request != TraceEvent.unknownRequest else { continue }
          number = event.pointee.request
          position &+= 1
        } else {
          scratch.count = 0
          var index = 0
          builder.fill(scratch, event, &index, count: 1, firstNumber: number)
          guard scratch.count == 1 else { continue }
          position = builder.issued
        }
        guard let kind = IOOperation.Kind(event.pointee.operation), event.pointee.latencyNanoseconds >= 0,
          event.pointee.result >= 0 || event.pointee.result == TraceEvent.unknownResult
        else { continue }
        body(
          Request(number: number, ordinal: position &- 1, kind: kind, latencyNanoseconds: max(1, event.pointee.latencyNanoseconds)), event)
      }
    }
  }

  /// What damage and gaps there are, for the notes of a diff.
  var notes: [String] {
    var notes = reader.damages.prefix(3).map { "\(PrintableText.escaped(path)): \($0)" }
    if reader.totals == nil { notes.append("\(PrintableText.escaped(path)): was not closed; what is missing is not known") }
    if reader.totals?.lossless == false { notes.append("\(PrintableText.escaped(path)): requests are missing from it") }
    return notes
  }
}
