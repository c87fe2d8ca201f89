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
    var errors: UInt64 = 0
    var largestLag: Int64 = 0
  }

  private let isTimed: Bool
  /// Service, lag and response by operation and size class, made at first use.
  private let byOperation: UnsafeMutablePointer<RawLatencySet?>
  private(set) var counters: UnsafeMutablePointer<Counter>
  private var currentWindow: RawLatencySet
  private var closedWindows: [(window: UInt64, windowRequests: UInt64, latencies: SparseLatencySet)] = []
  private(set) var windowRequests: UInt64
  private var windowEnd: UInt64 = 0
  private var window = -1
  private var windowStart: UInt64 = 0
  private let fileSets: UnsafeMutablePointer<RawHistogram?>
  private let fileRows: Int
  private(set) var fileCounters: UnsafeMutablePointer<Counter>
  private(set) var intervals: UnsafeMutablePointer<Interval>
  private(set) var intervalNanoseconds: Int64 = 1_000_000_000
  private(set) var errors: [ErrorKey: UInt64] = [:]
  private(set) var lateRequests: UInt64 = 0
  private(set) var dropped: UInt64 = 0
  private(set) var lastCompletion: Int64 = 0
  private var lastSubmitted: Int64 = .min
  private var lastDue: Int64 = 0
  private(set) var interarrivalErrorSum: Int64 = 0
  private(set) var interarrivals: UInt64 = 0
  /// Sum of the due gaps between consecutive requests.
  private(set) var dueSpan: Int64 = 0
  private(set) var serviceSum: Int64 = 0
  private(set) var recordedLatencySum: Int64 = 0
  private(set) var recordedLatencies: UInt64 = 0
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
    byOperation = .allocate(capacity: Self.kinds * Self.sizeClasses)
    byOperation.initialize(repeating: nil, count: Self.kinds * Self.sizeClasses)
    counters = .allocate(capacity: Self.kinds * Self.sizeClasses)
    counters.initialize(repeating: Counter(), count: Self.kinds * Self.sizeClasses)
    currentWindow = RawLatencySet(isTimed: isTimed)
    let maximum = UInt64(WindowSeries.maximumWindows)
    windowRequests = expectedRequests.map { max(1, ($0 + maximum - 1) / maximum) } ?? 256
    self.fileRows = fileRows
    fileSets = .allocate(capacity: fileRows + 1)
    fileSets.initialize(repeating: nil, count: fileRows + 1)
    fileCounters = .allocate(capacity: fileRows + 1)
    fileCounters.initialize(repeating: Counter(), count: fileRows + 1)
    intervals = .allocate(capacity: Self.maximumIntervals)
    intervals.initialize(repeating: Interval(), count: Self.maximumIntervals)
  }

  func deallocate() {
    counters.deallocate()
    fileCounters.deallocate()
    intervals.deallocate()
    for i in 0..<Self.kinds * Self.sizeClasses { byOperation[i]?.deallocate() }
    byOperation.deallocate()
    currentWindow.deallocate()
    for i in 0..<fileRows + 1 { fileSets[i]?.deallocate() }
    fileSets.deallocate()
  }

  /// 0 for no bytes, then one class per power of two from 512 B: class c holds sizes up to 256 · 2^c.
  @inline(__always)
  static func sizeClass(_ bytes: Int) -> Int {
    if bytes <= 0 { return 0 }
    let bits = (bytes - 1) >> 9
    return min(sizeClasses - 1, bits == 0 ? 1 : 65 - bits.leadingZeroBitCount)
  }

  /// Counts one completed request. Times are nanoseconds after the start; 
  @inline(__always)
  mutating func record(_ request: ReplayRequest, submitted: Int64, completed: Int64, result: Int64) {
    let service = completed &- submitted
    let lag = isTimed ? submitted &- request.dueNanoseconds : 0
    let slot = Int(request.kind.rawValue) * Self.sizeClasses + Self.sizeClass(request.lengthBytes)
    if byOperation[slot] == nil { byOperation[slot] = RawLatencySet(isTimed: isTimed) }
    byOperation[slot]!.record(lag: lag, service: service)
    if request.ordinal >= windowEnd || window < 0 || request.ordinal < windowStart { openWindow(request.ordinal) }
    currentWindow.record(lag: lag, service: service)
    let moved = UInt64(max(0, result)) * (request.kind == .read || request.kind == .write ? 1 : 0)
    counters[slot].requests &+= 1
    counters[slot].bytes &+= moved
    let row = min(Int(request.file), fileRows)
    fileCounters[row].requests &+= 1
    fileCounters[row].bytes &+= moved
    if fileSets[row] == nil { fileSets[row] = RawHistogram() }
    fileSets[row]!.record(service)
    recordInterval(completed, moved, lag, failed: result < 0)
    if result < 0 {
      recordError(request.kind, Int32(truncatingIfNeeded: -result), slot, row)
    } else if request.kind == .read || request.kind == .write {
      let expected = request.expectedBytes >= 0 ? request.expectedBytes : Int64(request.lengthBytes)
      if result < expected { counters[slot].shortTransfers &+= 1 }
    }
    if isTimed { recordSchedule(request, submitted, lag) }
    if request.recordedLatencyNanoseconds >= 0 {
      recordedLatencySum &+= request.recordedLatencyNanoseconds
      recordedLatencies &+= 1
    }
    serviceSum &+= service
    lastCompletion = completed
  }

  @inline(__always)
  private mutating func recordSchedule(_ request: ReplayRequest, _ submitted: Int64, _ lag: Int64) {
    if lag > lagBudget { lateRequests &+= 1 }
    if lastSubmitted != .min {
      let error = (submitted &- lastSubmitted) &- (request.dueNanoseconds &- lastDue)
      interarrivalErrorSum &+= abs(error)
      interarrivals &+= 1
      dueSpan &+= request.dueNanoseconds &- lastDue
    }
    lastSubmitted = submitted
    lastDue = request.dueNanoseconds
  }

  @inline(__always)
  private mutating func recordInterval(_ completed: Int64, _ bytes: UInt64, _ lag: Int64, failed: Bool) {
    var index = Int(completed / intervalNanoseconds)
    while index >= Self.maximumIntervals {
      coarsenIntervals()
      index = Int(completed / intervalNanoseconds)
    }
    intervals[index].requests &+= 1
    intervals[index].bytes &+= bytes
    if failed { intervals[index].errors &+= 1 }
    if lag > intervals[index].largestLag { intervals[index].largestLag = lag }
  }

  @inline(never)
  mutating func coarsenIntervals() {
    for i in 0..<Self.maximumIntervals / 2 {
      let (a, b) = (intervals[2 * i], intervals[2 * i + 1])
      intervals[i] = Interval(
        requests: a.requests + b.requests, bytes: a.bytes + b.bytes, errors: a.errors + b.errors,
        largestLag: max(a.largestLag, b.largestLag))
    }
    (intervals + Self.maximumIntervals / 2).update(repeating: Interval(), count: Self.maximumIntervals / 2)
    intervalNanoseconds *= 2
  }

  @inline(never)
  private mutating func recordError(_ kind: IOOperation.Kind, _ code: Int32, _ slot: Int, _ row: Int) {
    errors[ErrorKey(kind: kind, code: code), default: 0] += 1
    counters[slot].errors += 1
    fileCounters[row].errors += 1
  }

  mutating func recordDrop() { dropped += 1 }

  @inline(never)
  private mutating func openWindow(_ ordinal: UInt64) {
    closeWindow()
    while ordinal / windowRequests >= 2 * UInt64(WindowSeries.maximumWindows) { windowRequests *= 2 }
    window = Int(ordinal / windowRequests)
    windowStart = UInt64(window) * windowRequests
    windowEnd = windowStart + windowRequests
  }

  private mutating func closeWindow() {
    guard window >= 0 else { return }
    closedWindows.append((UInt64(window), windowRequests, currentWindow.sparse))
    currentWindow.reset()
    window = -1
  }

  // MARK: Reading

  /// The windows that this worker had requests in. Ends recording.
  mutating func takeWindows() -> WindowSeries {
    closeWindow()
    var series = WindowSeries(windowRequests: windowRequests)
    for (window, requests, latencies) in closedWindows {
      // Windows from before the size doubled lie inside the later ones.
      series.set(Int(window * requests / windowRequests), latencies.latencies)
    }
    return series
  }

  func latencies(_ kind: IOOperation.Kind, _ sizeClass: Int) -> LatencySet? {
    byOperation[Int(kind.rawValue) * Self.sizeClasses + sizeClass]?.latencies
  }

  func counter(_ kind: IOOperation.Kind, _ sizeClass: Int) -> Counter { counters[Int(kind.rawValue) * Self.sizeClasses + sizeClass] }

  var fileRowCount: Int { fileRows + 1 }
  func fileService(_ row: Int) -> LatencyHistogram { fileSets[row]?.histogram ?? LatencyHistogram() }
}

/// A tally that one worker writes and, after it, the report reads.
@dynamicMemberLookup
final class WorkerResult: @unchecked Sendable {
  let tally: UnsafeMutablePointer<WorkerTally>

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
