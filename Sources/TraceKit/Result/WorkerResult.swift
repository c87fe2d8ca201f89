/// Everything that one worker measures. Allocated before the clock starts; recording is a few stores. It lives behind a pointer
/// (`WorkerResult`): in a class, each store would be checked for exclusive access at run time.
struct WorkerTally {
  static let sizeClasses = 16
  /// Files beyond this number share one row of the report.
  static let maximumFileRows = 100
  static let maximumIntervals = 600

  struct Counter {
    var requests: UInt64 = 0
    var bytes: UInt64 = 0
    var errors: UInt64 = 0
    var shortTransfers: UInt64 = 0
  }
  struct Interval {
    var requests: UInt64 = 0
    var bytes: UInt64 = 0
    var bytesWritten: UInt64 = 0
    var errors: UInt64 = 0
    var largestLag: Int64 = 0
    /// Sum of the service times of what completed in the interval.
    var service: Int64 = 0
  }

  private let isTimed: Bool
  /// Latencies of the current window by operation and size class, made at first use. At the end of a window they are added to
  /// the totals and to the window's: one histogram is touched per request.
  private let current: UnsafeMutablePointer<RawLatencySet?>
  private var totals: [LatencySet?]
  private(set) var counters: UnsafeMutablePointer<Counter>
  private var closedWindows: [(window: UInt64, windowRequests: UInt64, latencies: LatencySet.Sparse)] = []
  private(set) var windowRequests: UInt64
  private var window = -1
  private var windowStart: UInt64 = 0
  /// Requests of the open window; 0 before the first.
  private var windowLength: Int64 = 0
  private let fileSets: UnsafeMutablePointer<RawHistogram?>
  private let fileRows: Int
  private(set) var fileCounters: UnsafeMutablePointer<Counter>
  private(set) var intervals: UnsafeMutablePointer<Interval>
  private var interval: UnsafeMutablePointer<Interval>
  private var intervalEnd: Int64 = 0
  /// Fine at first, so that short runs have a course as well; the width doubles whenever the intervals run out.
  private(set) var intervalNanoseconds: Int64 = 1_000_000
  private(set) var errors: [ErrorKey: UInt64] = [:]
  private(set) var lateRequests: UInt64 = 0
  /// Those of them that were late because others, which they had to follow, took longer than recorded.
  private(set) var lateByDependency: UInt64 = 0
  private(set) var dropped: UInt64 = 0
  /// Requests submitted while another one on the same bytes was in flight in this worker, one of the two a write.
  var overlaps: UInt64 = 0
  /// Failed requests that the kernel refused to take, which were not begun.
  private(set) var submissionErrors: UInt64 = 0
  private(set) var lastCompletion: Int64 = 0
  /// Lag of the latest request.
  private(set) var lastLag: Int64 = 0
  private var newErrors: UInt64 = 0
  private var lastSubmitted: Int64 = .min
  private var lastDue: Int64 = 0
  private(set) var interarrivalErrorSum: Int64 = 0
  private(set) var interarrivals: UInt64 = 0
  /// Sum of the due gaps between consecutive requests.
  private(set) var dueSpan: Int64 = 0
  var serviceSum: Int64 { (0..<Self.maximumIntervals).reduce(0) { $0 &+ intervals[$1].service } }
  /// The requests that took longest.
  private(set) var worst = WorstRequests()
  private let lagBudget: Int64
  static let kinds = IOOperation.Kind.allCases.count

  struct ErrorKey: Hashable {
    var kind: IOOperation.Kind
    var code: Int32
  }

  /// - Parameters:
  ///   - fileRows: files that get a row of their own, the first of the file table; the rest share one.
  ///   - expectedRequests: number of requests when it is known, so that there are exactly 30 windows.
  init(isTimed: Bool, lagBudget: Int64, fileRows: Int, expectedRequests: UInt64?) {
    self.isTimed = isTimed
    self.lagBudget = lagBudget
    current = .allocate(capacity: Self.kinds * Self.sizeClasses)
    current.initialize(repeating: nil, count: Self.kinds * Self.sizeClasses)
    totals = Array(repeating: nil, count: Self.kinds * Self.sizeClasses)
    counters = .allocate(capacity: Self.kinds * Self.sizeClasses)
    counters.initialize(repeating: Counter(), count: Self.kinds * Self.sizeClasses)
    let maximum = UInt64(WindowSeries.maximumWindows)
    windowRequests = expectedRequests.map { max(1, ($0 + maximum - 1) / maximum) } ?? 256
    self.fileRows = fileRows
    fileSets = .allocate(capacity: fileRows + 1)
    fileSets.initialize(repeating: nil, count: fileRows + 1)
    fileCounters = .allocate(capacity: fileRows + 1)
    fileCounters.initialize(repeating: Counter(), count: fileRows + 1)
    intervals = .allocate(capacity: Self.maximumIntervals)
    intervals.initialize(repeating: Interval(), count: Self.maximumIntervals)
    interval = intervals
  }

  func deallocate() {
    counters.deallocate()
    fileCounters.deallocate()
    intervals.deallocate()
    for i in 0..<Self.kinds * Self.sizeClasses { current[i]?.deallocate() }
    current.deallocate()
    for i in 0..<fileRows + 1 { fileSets[i]?.deallocate() }
    fileSets.deallocate()
    worst.deallocate()
  }

  /// 0 for no bytes, then one class per power of two from 512 B: class c holds sizes up to 256 · 2^c.
  @inline(__always)
  static func sizeClass(_ bytes: Int) -> Int {
    if bytes <= 0 { return 0 }
    let bits = (bytes - 1) >> 9
    return min(sizeClasses - 1, bits == 0 ? 1 : 65 - bits.leadingZeroBitCount)
  }

  /// Counts one completed request. Times are nanoseconds after the start.
  /// - Parameter undelayed: when a replayer that loses no time of its own would have submitted it; at least `due`.
  @inline(__always)
  mutating func record(
    _ request: UnsafePointer<ReplayRequest>, number: UInt64, ordinal: UInt64, due: Int64, undelayed: Int64, submitted: Int64,
    completed: Int64, result: Int64
  ) {
    let service = completed &- submitted
    let lag = isTimed ? submitted &- due : 0
    let kind = request.pointee.kind
    // One that completes after the window's end was reached by others counts in the later window.
    if Int64(bitPattern: ordinal &- windowStart) >= windowLength { openWindow(ordinal) }
    let slot = Int(kind.rawValue) * Self.sizeClasses + Self.sizeClass(request.pointee.lengthBytes)
    if current[slot] == nil { current[slot] = RawLatencySet(isTimed: isTimed) }
    current[slot]!.record(lag: lag, service: service)
    let isTransfer = kind == .read || kind == .write
    let moved = isTransfer && result > 0 ? UInt64(result) : 0
    counters[slot].requests &+= 1
    counters[slot].bytes &+= moved
    // The only file's figures are those of all requests.
    if fileRows > 1 { recordFile(min(Int(request.pointee.file), fileRows), moved, service, failed: result < 0) }
    recordInterval(completed, moved, lag, service, isWrite: kind == .write, failed: result < 0)
    if service > worst.threshold { worst.add(request, number: number, submitted: submitted, lag: lag, service: service, result: result) }
    if result < 0 {
      recordError(kind, Int32(truncatingIfNeeded: -result), slot)
    } else if isTransfer {
      if result < request.pointee.expectedBytes { counters[slot].shortTransfers &+= 1 }
    }
    if lag > lagBudget {
      lateRequests &+= 1
      if submitted &- undelayed <= lagBudget { lateByDependency &+= 1 }
    }
    lastLag = lag
    lastCompletion = completed
  }

  @inline(__always)
  private mutating func recordFile(_ row: Int, _ moved: UInt64, _ service: Int64, failed: Bool) {
    fileCounters[row].requests &+= 1
    fileCounters[row].bytes &+= moved
    if failed { fileCounters[row].errors &+= 1 }
    if fileSets[row] == nil { fileSets[row] = RawHistogram() }
    fileSets[row]!.record(service)
  }

  /// Counts the submission of a request that has a schedule.
  @inline(__always)
  mutating func recordSubmission(due: Int64, submitted: Int64) {
    if lastSubmitted != .min {
      let error = (submitted &- lastSubmitted) &- (due &- lastDue)
      interarrivalErrorSum &+= abs(error)
      interarrivals &+= 1
      dueSpan &+= due &- lastDue
    }
    lastSubmitted = submitted
    lastDue = due
  }

  @inline(__always)
  private mutating func recordInterval(_ completed: Int64, _ bytes: UInt64, _ lag: Int64, _ service: Int64, isWrite: Bool, failed: Bool) {
    if completed >= intervalEnd { openInterval(completed) }
    interval.pointee.requests &+= 1
    interval.pointee.bytes &+= bytes
    interval.pointee.service &+= service
    if isWrite { interval.pointee.bytesWritten &+= bytes }
    if failed { interval.pointee.errors &+= 1 }
    if lag > interval.pointee.largestLag { interval.pointee.largestLag = lag }
  }

  @inline(never)
  private mutating func openInterval(_ completed: Int64) {
    while Int(completed / intervalNanoseconds) >= Self.maximumIntervals { coarsenIntervals() }
    let index = max(0, completed / intervalNanoseconds)
    interval = intervals + Int(index)
    intervalEnd = (index + 1) * intervalNanoseconds
  }

  @inline(never)
  mutating func coarsenIntervals() {
    for i in 0..<Self.maximumIntervals / 2 {
      let (a, b) = (intervals[2 * i], intervals[2 * i + 1])
      intervals[i] = Interval(
        requests: a.requests + b.requests, bytes: a.bytes + b.bytes, bytesWritten: a.bytesWritten + b.bytesWritten,
        errors: a.errors + b.errors, largestLag: max(a.largestLag, b.largestLag), service: a.service &+ b.service)
    }
    (intervals + Self.maximumIntervals / 2).update(repeating: Interval(), count: Self.maximumIntervals / 2)
    intervalNanoseconds *= 2
  }

  @inline(never)
  private mutating func recordError(_ kind: IOOperation.Kind, _ code: Int32, _ slot: Int) {
    errors[ErrorKey(kind: kind, code: code), default: 0] += 1
    counters[slot].errors += 1
    newErrors += 1
  }

  /// Failed requests since the last call.
  @inline(__always)
  mutating func takeNewErrors() -> UInt64 {
    let count = newErrors
    newErrors = 0
    return count
  }

  mutating func recordDrop() { dropped += 1 }

  /// Counts a failed request as one that failed at submission; `record` counts it as well.
  @inline(never)
  mutating func recordSubmissionError() { submissionErrors += 1 }

  @inline(never)
  private mutating func openWindow(_ ordinal: UInt64) {
    closeWindow()
    while ordinal / windowRequests >= 2 * UInt64(WindowSeries.maximumWindows) { windowRequests *= 2 }
    window = Int(ordinal / windowRequests)
    windowStart = UInt64(window) * windowRequests
    windowLength = Int64(windowRequests)
  }

  private mutating func closeWindow() {
    guard window >= 0 else { return }
    var whole = LatencySet()
    for slot in 0..<Self.kinds * Self.sizeClasses where current[slot] != nil {
      let latencies = current[slot]!.latencies
      if totals[slot] == nil { totals[slot] = latencies } else { totals[slot]!.merge(latencies) }
      whole.merge(latencies)
      current[slot]!.reset()
    }
    closedWindows.append((UInt64(window), windowRequests, LatencySet.Sparse(whole)))
    window = -1
  }

  // MARK: Reading

  /// Ends recording.
  mutating func finish() { closeWindow() }

  /// The windows that this worker had requests in.
  func windows() -> WindowSeries {
    var series = WindowSeries(windowRequests: windowRequests)
    for (window, requests, latencies) in closedWindows {
      // Windows from before the size doubled lie inside the later ones.
      series.set(Int(window * requests / windowRequests), latencies.latencies)
    }
    return series
  }

  /// Latencies of all windows that are closed; `finish` closes the last.
  func latencies(_ kind: IOOperation.Kind, _ sizeClass: Int) -> LatencySet? {
    totals[Int(kind.rawValue) * Self.sizeClasses + sizeClass]
  }

  func counter(_ kind: IOOperation.Kind, _ sizeClass: Int) -> Counter { counters[Int(kind.rawValue) * Self.sizeClasses + sizeClass] }

  var fileRowCount: Int { fileRows + 1 }
  func fileService(_ row: Int) -> LatencyHistogram {
    if fileRows > 1 { return fileSets[row]?.histogram ?? LatencyHistogram() }
    var all = LatencyHistogram()
    if row == 0 { for set in totals { if let set { all.merge(set.service) } } }
    return all
  }

  func fileCounter(_ row: Int) -> Counter {
    if fileRows > 1 { return fileCounters[row] }
    var all = Counter()
    for slot in 0..<(row == 0 ? Self.kinds * Self.sizeClasses : 0) {
      all.requests += counters[slot].requests
      all.bytes += counters[slot].bytes
      all.errors += counters[slot].errors
    }
    return all
  }
}

/// A tally that one worker writes and, after it, the report reads.
@dynamicMemberLookup
final class WorkerResult: @unchecked Sendable {
  let tally: UnsafeMutablePointer<WorkerTally>
  /// What the engine said of itself.
  var conditions: [String: String] = [:]
  /// What `--verify` found during the run; nil without it.
  var verification: VerificationResult?

  init(_ initial: WorkerTally) {
    tally = .allocate(capacity: 1)
    tally.initialize(to: initial)
  }

  deinit {
    tally.pointee.deallocate()
    tally.deinitialize(count: 1)
    tally.deallocate()
  }

  subscript<Value>(dynamicMember member: KeyPath<WorkerTally, Value>) -> Value { tally.pointee[keyPath: member] }
}
