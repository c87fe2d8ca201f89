import CTrace

/// What all workers of a replay share.
final class ReplayControl: @unchecked Sendable {
  let isTimed: Bool
  let late: LatePolicy
  let lagBudget: Int64
  let pacer: Pacer
  let payload: Payload
  let largestRead: Int
  /// CLOCK_MONOTONIC of the replay's time 0; set before the workers start.
  var anchor: Int64 = 0
  /// Counters on memory of their own, a cache line each: schedule shift, highest number submitted, inversions, completed requests.
  private let words: UnsafeMutablePointer<UInt64>
  let tracksInversions: Bool

  init(
    options: ReplayOptions, pacer: Pacer, payload: Payload, largestRead: Int, workers: Int
  ) {
    isTimed = options.speed.isTimed && options.order != .depth
    late = options.late
    lagBudget = options.lagBudgetNanoseconds
    self.pacer = pacer
    self.payload = payload
    self.largestRead = largestRead
    tracksInversions = workers > 1
    words = .allocate(capacity: 16 * 8)
    words.initialize(repeating: 0, count: 16 * 8)
  }

  deinit { words.deallocate() }

  var shift: Int64 { Int64(bitPattern: ctrace_load_relaxed64(words)) }
  func addShift(_ nanoseconds: Int64) { _ = ctrace_fetch_add64(words, UInt64(nanoseconds)) }
  var inversions: UInt64 { ctrace_load_relaxed64(words + 16) }

  /// Counts a request that is submitted after one with a later number.
  @inline(__always)
  func noteSubmission(_ number: UInt64) {
    let highest = ctrace_load_relaxed64(words + 8)
    if number + 1 < highest { _ = ctrace_fetch_add64(words + 16, 1) } else { ctrace_store_relaxed64(words + 8, number + 1) }
  }

  /// Requests that are done, for people: counted by the batch.
  var progress: UInt64 { ctrace_load_relaxed64(words + 24) }
  @inline(__always)
  func addProgress(_ count: UInt64) { _ = ctrace_fetch_add64(words + 24, count) }
}

/// The loop that takes requests from a queue, waits until they are due, and lets an engine do them. Generic over the engine so
/// that everything inside specialises; one worker is one thread.
struct ReplayWorker<Engine: IOEngine & ~Copyable>: ~Copyable {
  private var engine = Engine()
  private let queue: RequestQueue
  private let control: ReplayControl
  private let result: WorkerResult
  private let readBuffer: UnsafeMutableRawPointer?
  private let claimLimit: Int
  private var log: ReplayLog.Channel?
  /// CLOCK_MONOTONIC of the replay's time 0; a copy, since properties of classes are checked at each access.
  private var anchor: Int64 = 0

  init(queue: RequestQueue, control: ReplayControl, result: WorkerResult, claimLimit: Int, log: ReplayLog.Channel?) {
    self.queue = queue
    self.control = control
    self.result = result
    self.claimLimit = claimLimit
    self.log = log
    readBuffer = Engine.needsTargets ? .allocate(byteCount: max(control.largestRead, 4096), alignment: 4096) : nil
  }

  deinit { readBuffer?.deallocate() }

  mutating func run() {
    Pacer.useFineTimers()
    anchor = control.anchor
    var now = ctrace_monotonic_ns()
    while let (batch, range) = queue.claim(claimLimit) {
      // Waiting for the queue is not part of the first request.
      now = ctrace_monotonic_ns()
      for i in range {
        if ctrace_stop_signal() != 0 { break }
        now = perform(batch.requests + i, now: now)
      }
      control.addProgress(UInt64(range.count))
      queue.release(batch, range.count)
      if ctrace_stop_signal() != 0 { break }
    }
    log?.finish()
  }

  /// Does one request; the clock is read once after it, and that time begins the next one.
  @inline(__always)
  private mutating func perform(_ request: UnsafePointer<ReplayRequest>, now: Int64) -> Int64 {
    var due = request.pointee.dueNanoseconds
    var submitted = now
    if control.isTimed {
      due &+= control.shift
      let dueTime = anchor &+ due
      if now < dueTime {
        submitted = control.pacer.wait(until: dueTime, from: now)
        if submitted < dueTime { return submitted }
      } else if control.late != .burst, now &- dueTime > control.lagBudget {
        if control.late == .drop {
          result.tally.pointee.recordDrop()
          return now
        }
        control.addShift(now &- dueTime)
        due &+= now &- dueTime
      }
    }
    if control.tracksInversions { control.noteSubmission(request.pointee.number) }
    let outcome = engine.perform(operation(request))
    let completed = ctrace_monotonic_ns()
    result.tally.pointee.record(request, due: due, submitted: submitted &- anchor, completed: completed &- anchor, result: outcome)
    if log != nil { log!.append(request.pointee, submitted: submitted &- anchor, completed: completed &- anchor, result: outcome) }
    return completed
  }

  @inline(__always)
  private func operation(_ pointer: UnsafePointer<ReplayRequest>) -> IOOperation {
    let request = pointer.pointee
    let buffer: UnsafeMutableRawPointer?
    if !Engine.needsTargets {
      buffer = nil
    } else if request.kind == .write {
      buffer = control.payload.slice(file: request.file, offset: request.offsetBytes, sequence: request.number)
    } else {
      buffer = readBuffer
    }
    return IOOperation(
      kind: request.kind, isBlockDevice: request.isBlockDevice, fileDescriptor: request.fileDescriptor, flags: request.callFlags,
      buffer: buffer, offsetBytes: request.offsetBytes, lengthBytes: request.lengthBytes)
  }
}
