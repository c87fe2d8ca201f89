import CTrace
import Glibc

/// Turns drained rounds into a trace, on a thread of its own: names become rows, streams become one in the order of starts.
final class RecordingWriter: @unchecked Sendable {
  /// What the thread found out; complete after `join`.
  struct Outcome: Sendable {
    var totals = TraceTotals()
    var sizeBytes: UInt64 = 0
    var excludedEvents: UInt64 = 0
    var droppedEvents: UInt64 = 0
    var killedInCall: UInt64 = 0
    var unrecordedCalls: UInt64 = 0
    /// Bytes of reads and writes, and of copies between files, before filters: what the kernel's counters saw too.
    var bytesRead: UInt64 = 0
    var bytesWritten: UInt64 = 0
    var processes: Set<Int32> = []
    var mappings: UInt64 = 0
    /// Why writing ended early.
    var failure: TraceError?
  }
  private let queue: CaptureQueue
  /// Ends the recording at its source; called when nothing more can be written.
  private let stop: @Sendable () -> Void
  private var outcome = Outcome()
  private var thread: WorkerThread?
  /// The trace until the thread takes it.
  private var pending: RecordingStream?

  convenience init(queue: CaptureQueue, session: PreloadSession) {
    self.init(queue: queue) { session.stop() }
  }

  init(queue: CaptureQueue, stop: @escaping @Sendable () -> Void) {
    self.queue = queue
    self.stop = stop
  }

  /// Starts writing to `writer`; time 0 of the trace is `epochNanoseconds` of CLOCK_MONOTONIC.
  func start(writer: TraceWriter, files: RecordedFiles, epochNanoseconds: UInt64) throws(TraceError) {
    pending = RecordingStream(writer: writer, files: files, epochNanoseconds: epochNanoseconds)
    thread = try WorkerThread {
      // Where it may, it goes ahead of the recorded program: what can't be written in time is lost.
      setpriority(__priority_which_t(PRIO_PROCESS.rawValue), id_t(ctrace_gettid()), -5)
      self.run()
    }
  }

  /// Waits for the last round. The trace is not finished: its metadata may still be completed.
  func join() -> Outcome {
    thread?.join()
    thread = nil
    return outcome
  }

  private func run() {
    // A local value: as properties of this object its parts would be checked for exclusive access at each event.
    var stream = pending.take()!
    while true {
      let round = queue.take()
      let isLast = round.isLast
      stream.absorb(round)
      // The program runs on unrecorded; what was written stays readable.
      if stream.outcome.failure != nil { stop() }
      if isLast { break }
    }
    outcome = stream.outcome
  }
}

/// The state of one trace being written: one thread's.
private struct RecordingStream: ~Copyable {
  private let writer: TraceWriter
  private let epochNanoseconds: UInt64
  private var files: RecordedFiles
  private var window = ReorderWindow()
  private(set) var outcome = RecordingWriter.Outcome()
  private var lastFlush: Int64 = 0
  private var lastMerge: Int64 = 0
  private var mergedCount = 0
  private var readyBefore = Int64.min

  init(writer: TraceWriter, files: RecordedFiles, epochNanoseconds: UInt64) {
    self.writer = writer
    self.files = files
    self.epochNanoseconds = epochNanoseconds
  }

  /// Takes a round in, and writes what can't be preceded by anything any more.
  mutating func absorb(_ round: borrowing CaptureRound) {
    for gap in round.gaps { accept(gap) }
    absorbSlots(round)
    // An event that starts before this round's watermark was published by now, but its file's definition may follow in
    // another ring; what starts before the last round's has its definition in hand.
    do throws(TraceError) { try merge(before: readyBefore, isLast: round.isLast) } catch { outcome.failure = error }
    readyBefore = max(readyBefore, round.watermark)
  }

  // MARK: Rounds

  private mutating func absorbSlots(_ round: borrowing CaptureRound) {
    let slotBytes = MemoryLayout<trace_record>.stride
    var offset = 0
    for segment in round.segments {
      outcome.processes.insert(segment.processID)
      let end = offset + segment.slotCount * slotBytes
      while offset < end {
        let record = round.slots.load(fromByteOffset: offset, as: trace_record.self)
        offset += slotBytes
        if UInt32(record.operation) == TRACE_OP_DEFINITION.rawValue {
          let bytes = Int(min(record.size, UInt64(end - offset)))
          files.define(UnsafeRawBufferPointer(start: round.slots + offset, count: bytes))
          offset += (bytes + slotBytes - 1) / slotBytes * slotBytes
        } else {
          accept(record, processID: segment.processID)
        }
      }
    }
  }

  private mutating func accept(_ record: trace_record, processID: Int32) {
    let operation = TraceOperation(rawValue: record.operation) ?? .other
    let transfers = operation == .copyRange || operation == .sendfile
    if record.result > 0 {
      if operation == .read || transfers { outcome.bytesRead &+= UInt64(record.result) }
      if operation == .write || transfers { outcome.bytesWritten &+= UInt64(record.result) }
    }
    if operation == .map { outcome.mappings += 1 }
    guard outcome.failure == nil else { return }
    window.append(
      TraceEvent(
        startNanoseconds: Int64(bitPattern: record.start_ns &- epochNanoseconds), operation: operation,
        file: record.description, offsetBytes: record.offset, sizeBytes: record.size,
        latencyNanoseconds: Int64(bitPattern: record.latency_ns), result: record.result, processID: processID,
        threadID: record.thread_id, flags: TraceEventFlags(rawValue: record.flags), otherFile: record.other_description))
  }

  private mutating func accept(_ gap: TraceEvent) {
    let lost = gap.sizeIfKnown ?? 0
    switch GapCause(rawValue: gap.result) {
    case .killedInCall: outcome.killedInCall += lost
    case .noRing: outcome.unrecordedCalls += lost
    default: outcome.droppedEvents += lost
    }
    guard outcome.failure == nil else { return }
    var event = gap
    event.file = 0
    event.otherFile = 0
    window.append(event)
  }

  // MARK: The trace

  private mutating func merge(before watermark: Int64, isLast: Bool) throws(TraceError) {
    let now = ctrace_monotonic_ns()
    guard outcome.failure == nil else { return }
    // Sorting what waits costs a pass over it, so not for each handful of events.
    let due = now - lastMerge > 50_000_000 || window.count - mergedCount > 65_536
    guard isLast || due else { return }
    lastMerge = now
    // The window can't be drained into the value that it is part of.
    var output = Output(writer: writer, files: files, excluded: 0)
    files = RecordedFiles(filter: PathFilter(), anonymizer: nil)
    defer {
      files = output.files
      outcome.excludedEvents += output.excluded
    }
    if isLast {
      try window.drainAll { (event) throws(TraceError) in try output.write(event) }
    } else {
      try window.drain(before: watermark) { (event) throws(TraceError) in try output.write(event) }
    }
    mergedCount = window.count
    if isLast || now - lastFlush > 1_000_000_000 {
      try writer.flush()
      lastFlush = now
    }
  }

  /// Where events go: rows for the files that they name, then the trace.
  private struct Output {
    let writer: TraceWriter
    var files: RecordedFiles
    var excluded: UInt64

    mutating func write(_ merged: TraceEvent) throws(TraceError) {
      var event = merged
      let writer = writer
      switch files.resolve(merged.file, addRow: { writer.addFile($0) }) {
      case .row(let row): event.file = row
      case .unknown where merged.operation == .gap || files.keepsUnnamed: event.file = TraceEvent.unknownFile
      case .unknown, .excluded:
        excluded += 1
        return
      }
      switch files.resolve(merged.otherFile, addRow: { writer.addFile($0) }) {
      case .row(let row): event.otherFile = row
      case .unknown, .excluded: event.otherFile = TraceEvent.unknownFile
      }
      try writer.append(event)
    }
  }
}
