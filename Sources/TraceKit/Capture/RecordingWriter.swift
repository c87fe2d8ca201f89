import CTrace
import Glibc

/// Turns drained rounds into a trace, on a thread of its own: names become rows, streams become one in the order of starts.
final class RecordingWriter: @unchecked Sendable {
  /// What the thread found out; complete after `join`.
  struct Outcome: Sendable {
    /// Events by operation and gaps, as written. The route adds what it knows beside.
    var ledger = RecordingLedger()
    /// Bytes of reads and writes, and of copies between files, before filters: what the kernel's counters saw too.
    var bytesRead: UInt64 = 0
    var bytesWritten: UInt64 = 0
    var processes: Set<Int32> = []
    var mappings: UInt64 = 0
    /// Files that kept events name.
    var files = 0
    /// Asynchronous requests, those whose completion was not seen, and completions of no recorded request.
    var requests: UInt64 = 0
    var unfinishedRequests: UInt64 = 0
    var unmatchedCompletions: UInt64 = 0
    /// Why writing ended early.
    var failure: TraceError?
  }
  private let queue: CaptureQueue
  private let output: RecordingOutput
  private let stopRecording: @Sendable () -> Void
  private let nice: Int32?
  private var outcome = Outcome()
  private var thread: WorkerThread?
  /// The state until the thread takes it.
  private var pending: RecordingStream?
  private var epochNanoseconds: UInt64 = 0
  private var firstNanoseconds: UInt64 = 0
  private var firstCPUNanoseconds: Int64 = 0

  /// - Parameters:
  ///   - nice: nice value of the writing thread; nil lets it go ahead where that is allowed.
  ///   - stopRecording: called on the writing thread, perhaps repeatedly, when no more events are wanted: a full disk, a limit.
  init(queue: CaptureQueue, output: RecordingOutput, nice: Int32? = nil, stopRecording: @escaping @Sendable () -> Void) {
    self.nice = nice
    self.queue = queue
    self.output = output
    self.stopRecording = stopRecording
  }

  /// Starts writing; time 0 of the trace is `epochNanoseconds` of CLOCK_MONOTONIC.
  func start(files: RecordedFiles, epochNanoseconds: UInt64) throws(TraceError) {
    self.epochNanoseconds = epochNanoseconds
    firstNanoseconds = UInt64(ctrace_monotonic_ns())
    firstCPUNanoseconds = ctrace_process_cpu_ns()
    pending = RecordingStream(output: output, files: files, sample: output.sample, epochNanoseconds: epochNanoseconds)
    let nice = nice
    thread = try WorkerThread {
      // Where it may, it goes ahead of the recorded program: what can't be written in time is lost.
      setpriority(__priority_which_t(PRIO_PROCESS.rawValue), id_t(ctrace_gettid()), nice ?? -5)
      self.run()
    }
  }

  /// Waits for the last round. The trace is not finished: `finish` does that.
  @discardableResult
  func join() -> Outcome {
    thread?.join()
    thread = nil
    outcome.ledger.startNanoseconds = Int64(bitPattern: firstNanoseconds &- epochNanoseconds)
    outcome.ledger.endNanoseconds = Int64(bitPattern: UInt64(ctrace_monotonic_ns()) &- epochNanoseconds)
    outcome.ledger.recorderCPUNanoseconds = UInt64(max(0, ctrace_process_cpu_ns() - firstCPUNanoseconds))
    return outcome
  }

  /// Closes the trace, after `join`, and says what the recording amounts to.
  /// - Parameters:
  ///   - complete: adds coverage, blind spots and what else the route knows to the ledger.
  ///   - programFailure: how the recorded program failed, for triggers that ask for that; nil when it did not.
  ///   - change: last changes to the metadata.
  func finish(
    programFailure: String? = nil, _ complete: (inout RecordingLedger) -> Void, metadata change: (inout TraceMetadata) -> Void = { _ in }
  ) -> RecordingSummary {
    var ledger = outcome.ledger
    complete(&ledger)
    var failure = outcome.failure
    if failure == nil {
      do throws(TraceError) { ledger = try output.finish(ledger: ledger, programFailure: programFailure, change: change) } catch {
        failure = error
      }
    }
    var result = output.result(ledger: ledger)
    result.totals.files = UInt64(outcome.files)
    return RecordingSummary(output: output.path, result: result, processes: outcome.processes.count, failure: failure)
  }

  private func run() {
    // A local value: as properties of this object its parts would be checked for exclusive access at each event.
    var stream = pending.take()!
    while true {
      guard let round = queue.take(waitingMilliseconds: 100) else {
        stream.tick()
        continue
      }
      let isLast = round.isLast
      stream.absorb(round)
      // The program runs on unrecorded; what was written stays readable.
      if stream.isStopped { stopRecording() }
      if isLast { break }
    }
    outcome = stream.outcome
    outcome.files = stream.namedFiles
    let (excluded, sampling) = (outcome.ledger.excludedEvents, stream.sampling)
    outcome.ledger = output.currentLedger()
    outcome.ledger.excludedEvents = excluded
    outcome.ledger.sampling = sampling
  }
}

/// The state of one trace being written: one thread's.
private struct RecordingStream: ~Copyable {
  private let destination: RecordingOutput
  private let epochNanoseconds: UInt64
  private var files: RecordedFiles
  private let sample: SampleRule?
  private var threads: ThreadSample
  private var leftOut: UInt64 = 0
  private var window = ReorderWindow()
  private var requests = CapturedRequests()
  private(set) var outcome = RecordingWriter.Outcome()
  private var lastFlush: Int64 = 0
  private var lastMerge: Int64 = 0
  private var mergedCount = 0
  private var readyBefore = Int64.min

  init(output: RecordingOutput, files: RecordedFiles, sample: SampleRule?, epochNanoseconds: UInt64) {
    self.sample = sample
    threads = ThreadSample(sample)
    destination = output
    self.files = files
    self.epochNanoseconds = epochNanoseconds
  }

  /// Nothing is written any more.
  var isStopped: Bool { outcome.failure != nil || destination.isStopped }
  var namedFiles: Int { files.named }
  /// What the sample came to; nil without one.
  var sampling: RecordingLedger.Sampling? {
    guard let sample else { return nil }
    let counts = sample.unit == .files ? files.sampled : threads.counts
    return .init(unit: sample.unit.rawValue, oneIn: sample.oneIn, recorded: counts.recorded, met: counts.met, eventsLeftOut: leftOut)
  }

  /// Takes a round in, and writes what can't be preceded by anything any more.
  mutating func absorb(_ round: borrowing CaptureRound) {
    for gap in round.gaps { accept(gap) }
    absorbSlots(round)
    if round.isLast { finishRequests() }
    // An event that starts before this round's watermark was published by now, but its file's definition may follow in
    // another ring; what starts before the last round's has its definition in hand.
    let now = Int64(bitPattern: UInt64(ctrace_monotonic_ns()) &- epochNanoseconds)
    requests.expire(now: now)
    let watermark = requests.count == 0 ? readyBefore : min(readyBefore, requests.earliestStart(now: now))
    do throws(TraceError) { try merge(before: watermark, isLast: round.isLast) } catch { outcome.failure = error }
    readyBefore = max(readyBefore, round.watermark)
    tick()
  }

  /// What is to be done from time to time, also when nothing comes.
  mutating func tick() {
    guard !isStopped, let end = destination.dueDump() else { return }
    do throws(TraceError) {
      // A call in flight may hold back what ended since; it is not waited for.
      try merge(before: max(readyBefore, Int64(bitPattern: end &- epochNanoseconds) &+ 1), isLast: false, isForced: true)
      destination.dump()
    } catch { outcome.failure = error }
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
        } else if UInt32(record.phase) == TRACE_PHASE_CALL.rawValue {
          accept(record, processID: segment.processID)
        } else {
          absorbRequest(record, processID: segment.processID)
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
    guard !isStopped else { return }
    window.append(
      TraceEvent(
        startNanoseconds: Int64(bitPattern: record.start_ns &- epochNanoseconds), operation: operation,
        file: record.description, offsetBytes: record.offset, sizeBytes: record.size,
        latencyNanoseconds: Int64(bitPattern: record.latency_ns), result: record.result, processID: processID,
        threadID: record.thread_id, flags: TraceEventFlags(rawValue: record.flags), otherFile: record.other_description))
  }

  // MARK: Requests

  private mutating func absorbRequest(_ record: trace_record, processID: Int32) {
    let isPOSIX = record.offset == TRACE_CONTEXT_POSIX
    var finished: TraceEvent?
    requests.take(record, processID: processID, epochNanoseconds: epochNanoseconds) { finished = $0 }
    guard let event = finished else { return }
    outcome.requests += 1
    // glibc's threads read and write for POSIX AIO, which the kernel counts; it does not for libaio and io_uring.
    if isPOSIX, event.result > 0 {
      if event.operation == .read { outcome.bytesRead &+= UInt64(event.result) }
      if event.operation == .write { outcome.bytesWritten &+= UInt64(event.result) }
    }
    if !isStopped { window.append(event) }
  }

  private mutating func finishRequests() {
    var unfinished: [TraceEvent] = []
    requests.giveUnfinished { unfinished.append($0) }
    outcome.requests += UInt64(unfinished.count)
    outcome.unfinishedRequests = UInt64(unfinished.count)
    outcome.unmatchedCompletions = requests.unmatchedCompletions
    if !isStopped { for event in unfinished { window.append(event) } }
  }

  private mutating func accept(_ gap: TraceEvent) {
    guard !isStopped else { return }
    var event = gap
    event.file = 0
    event.otherFile = 0
    window.append(event)
  }

  // MARK: The trace

  private mutating func merge(before watermark: Int64, isLast: Bool, isForced: Bool = false) throws(TraceError) {
    let now = ctrace_monotonic_ns()
    guard !isStopped else { return }
    // Sorting what waits costs a pass over it, so not for each handful of events.
    let due = now - lastMerge > 50_000_000 || window.count - mergedCount > 65_536
    guard isLast || isForced || due else { return }
    lastMerge = now
    // The window can't be drained into the value that it is part of.
    var output = Output(destination: destination, files: files, threads: threads)
    files = RecordedFiles(filter: PathFilter(), anonymizer: nil)
    do {
      defer {
        files = output.files
        threads = output.threads
        leftOut += output.leftOut
        outcome.ledger.excludedEvents += output.excluded
      }
      if isLast {
        try window.drainAll { (event) throws(TraceError) in try output.write(event) }
      } else {
        try window.drain(before: watermark) { (event) throws(TraceError) in try output.write(event) }
      }
    }
    mergedCount = window.count
    if !isLast, try destination.advance(to: watermark) { files.forgetRows() }
    if isLast || now - lastFlush > 1_000_000_000 {
      try destination.flush()
      lastFlush = now
    }
  }

  /// Where events go: rows for the files that they name, then the trace.
  private struct Output {
    let destination: RecordingOutput
    var files: RecordedFiles
    var threads: ThreadSample
    var excluded: UInt64 = 0
    var leftOut: UInt64 = 0

    mutating func write(_ merged: TraceEvent) throws(TraceError) {
      var event = merged
      let destination = destination
      if destination.isStopped { return }
      if try destination.prepare(forStart: merged.startNanoseconds) { files.forgetRows() }
      defer { if merged.operation == .close, merged.result >= 0 { files.close(merged.file) } }
      guard merged.operation == .gap || threads.keeps(merged) else {
        leftOut += 1
        return
      }
      switch files.resolve(merged.file, addRow: { destination.addFile($0) }) {
      case .row(let row): event.file = row
      case .unknown where merged.operation == .gap || files.keepsUnnamed: event.file = TraceEvent.unknownFile
      case .unsampled,
        .unknown where files.sample != nil:
        leftOut += 1
        return
      case .unknown, .excluded, .unsampled:
        excluded += 1
        return
      }
      switch files.resolve(merged.otherFile, addRow: { destination.addFile($0) }) {
      case .row(let row): event.otherFile = row
      case .unknown, .excluded, .unsampled: event.otherFile = TraceEvent.unknownFile
      }
      try destination.append(event)
    }
  }
}
