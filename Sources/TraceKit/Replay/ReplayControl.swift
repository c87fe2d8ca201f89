import CTrace

/// What all workers of a replay share.
final class ReplayControl: @unchecked Sendable {
  /// What the hot path needs of each target; a row of the target table has strings in it, which a copy would have to retain.
  struct Destination: BitwiseCopyable {
    var descriptor: Int32
    /// The same with O_DIRECT; −1 for none.
    var directDescriptor: Int32
    /// Bits of an offset or length that O_DIRECT does not take: the logical block size minus 1.
    var directMask: Int64
    var isBlockDevice: Bool
    var placement: TargetPlacement
    /// The first target that is the same file or device.
    var primary: Int32
  }

  let isTimed: Bool
  /// At maximum speed, recorded threads still pause between their requests.
  let keepsThinkTime: Bool
  let schedule: ReplaySchedule
  let order: ReplayOrder
  let late: LatePolicy
  let lagBudget: Int64
  let pacer: Pacer
  let payload: Payload
  let streams: StreamTable
  let largestRequestBytes: Int
  /// The trace has writes.
  let writes: Bool
  let engineOptions: EngineOptions
  /// By file.
  let destinations: UnsafeMutablePointer<Destination>
  let destinationCount: Int
  /// CLOCK_MONOTONIC of the replay's time 0; set before the workers go.
  var anchor: Int64 = 0
  /// Counters on memory of their own, a cache line each.
  private let words: UnsafeMutablePointer<UInt64>
  private enum Word {
    static let shift = 0
    static let highestSubmitted = 8
    static let inversions = 16
    static let progress = 24
    static let ready = 32
    static let go = 40
    static let errors = 48
    static let lag = 56
    static let ended = 64
    static let count = 72
  }
  let tracksInversions: Bool
  /// What `--verify` knows; set before the workers start.
  var verification: ReplayVerification?
  private let failures: FailureBox

  init(
    options: ReplayOptions, pacer: Pacer, payload: Payload, streams: StreamTable, largestRequestBytes: Int, writes: Bool,
    targets: [ReplayTarget],
    tracksInversions: Bool
  ) {
    isTimed = options.speed.isTimed && options.order != .depth
    keepsThinkTime = options.keepsThinkTime
    schedule = ReplaySchedule(options.order == .depth ? .maximum : options.speed)
    order = options.order
    late = options.late
    lagBudget = options.lagBudgetNanoseconds
    engineOptions = options.engineOptions
    self.pacer = pacer
    self.payload = payload
    self.streams = streams
    self.largestRequestBytes = largestRequestBytes
    self.writes = writes
    self.tracksInversions = tracksInversions
    destinationCount = targets.count
    destinations = .allocate(capacity: max(1, targets.count))
    for (i, target) in targets.enumerated() {
      (destinations + i).initialize(
        to: Destination(
          descriptor: target.descriptor, directDescriptor: target.directDescriptor, directMask: Int64(target.directAlignmentBytes) - 1,
          isBlockDevice: target.isBlockDevice, placement: target.placement,
          primary: Int32(target.primary)))
    }
    words = .allocate(capacity: Word.count)
    words.initialize(repeating: 0, count: Word.count)
    failures = FailureBox()
  }

  deinit {
    words.deallocate()
    destinations.deallocate()
  }

  /// Descriptors as engines may register them: two per file, the second with O_DIRECT.
  var descriptors: [Int32] {
    (0..<destinationCount).flatMap { [destinations[$0].descriptor, destinations[$0].directDescriptor] }
  }

  // MARK: Starting

  /// A worker is set up (or has failed); returns when all go, false when the replay does not begin.
  func enter() -> Bool {
    _ = ctrace_fetch_add64(words + Word.ready, 1)
    while ctrace_load_acquire64(words + Word.go) == 0 { ctrace_sleep_until(ctrace_monotonic_ns() + 20_000) }
    return failures.first == nil
  }

  /// A worker could not be set up.
  func fail(_ error: TraceError) { failures.add(error) }

  /// Waits until all workers are set up. - Throws: what kept one from it; the workers end then.
  func waitUntilReady(_ workers: Int) throws(TraceError) {
    while Int(ctrace_load_acquire64(words + Word.ready)) < workers { ctrace_sleep_until(ctrace_monotonic_ns() + 20_000) }
    if let failure = failures.first {
      go()
      throw failure
    }
  }

  func go() { ctrace_store_release64(words + Word.go, 1) }

  // MARK: Ending early

  /// No further request can succeed: all workers stop, and the report says why.
  func end(_ reason: String) {
    failures.add(TraceError(.refused, reason))
    ctrace_store_release64(words + Word.ended, 1)
  }

  /// The run ended early.
  var hasEnded: Bool { ctrace_load_relaxed64(words + Word.ended) != 0 }

  /// Why the run ended early or can't be trusted; after the workers have ended.
  var failure: String? { failures.first?.message }

  /// Something that does not end the run, but makes its report doubtful.
  func doubt(_ reason: String) { failures.add(TraceError(.refused, reason)) }

  // MARK: Counters

  var shift: Int64 { Int64(bitPattern: ctrace_load_relaxed64(words + Word.shift)) }
  func addShift(_ nanoseconds: Int64) { _ = ctrace_fetch_add64(words + Word.shift, UInt64(nanoseconds)) }
  var inversions: UInt64 { ctrace_load_relaxed64(words + Word.inversions) }

  /// Counts a request that is submitted after one with a later number.
  @inline(__always)
  func noteSubmission(_ number: UInt64) {
    let highest = ctrace_load_relaxed64(words + Word.highestSubmitted)
    if number + 1 < highest {
      _ = ctrace_fetch_add64(words + Word.inversions, 1)
    } else {
      ctrace_store_relaxed64(words + Word.highestSubmitted, number + 1)
    }
  }

  /// Requests that are done, for people: counted by the batch.
  var progress: UInt64 { ctrace_load_relaxed64(words + Word.progress) }
  /// Requests that failed, and the lag of one of the latest, in nanoseconds.
  var errors: UInt64 { ctrace_load_relaxed64(words + Word.errors) }
  var latestLag: Int64 { Int64(bitPattern: ctrace_load_relaxed64(words + Word.lag)) }
  @inline(__always)
  func addProgress(_ count: UInt64, errors: UInt64, lag: Int64) {
    _ = ctrace_fetch_add64(words + Word.progress, count)
    if errors > 0 { _ = ctrace_fetch_add64(words + Word.errors, errors) }
    if isTimed { ctrace_store_relaxed64(words + Word.lag, UInt64(bitPattern: lag)) }
  }
}

/// The first error of several threads.
private final class FailureBox: @unchecked Sendable {
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private var error: TraceError?

  init() {
    lock = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
  }

  deinit {
    pthread_mutex_destroy(lock)
    lock.deallocate()
  }

  func add(_ new: TraceError) {
    pthread_mutex_lock(lock)
    if error == nil { error = new }
    pthread_mutex_unlock(lock)
  }

  var first: TraceError? {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return error
  }
}
