/// Everything that one worker measures. Allocated before the clock starts; recording is a few stores.
final class WorkerResult: @unchecked Sendable {
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
  private var byOperation: [RawLatencySet?]
  private(set) var counters: UnsafeMutablePointer<Counter>
  private var windowSets: [RawLatencySet?]
  private(set) var windowRequests: UInt64
  private var windowEnd: UInt64 = 0
  private var window = -1
  private var fileSets: [RawHistogram?]
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
  private(set) var recordedLatencySum: Int64 = 0
  private(set) var recordedLatencies: UInt64 = 0
  private let lagBudget: Int64
  static let kinds = IOOperation.Kind.allCases.count

  struct ErrorKey: Hashable {
    var kind: IOOperation.Kind
    var code: Int32
  }

  /// - Parameters:
  ///   - files: rows of the trace's file table.
  ///   - expectedRequests: number of requests when it is known, so that there are exactly 30 windows.
  init(isTimed: Bool, lagBudget: Int64, files: Int, expectedRequests: UInt64?) {
    self.isTimed = isTimed
    self.lagBudget = lagBudget
    byOperation = Array(repeating: nil, count: Self.kinds * Self.sizeClasses)
    counters = .allocate(capacity: Self.kinds * Self.sizeClasses)
    counters.initialize(repeating: Counter(), count: Self.kinds * Self.sizeClasses)
    windowSets = Array(repeating: nil, count: 2 * WindowSeries.maximumWindows)
    let maximum = UInt64(WindowSeries.maximumWindows)
    windowRequests = expectedRequests.map { max(1, ($0 + maximum - 1) / maximum) } ?? 256
    fileRows = min(files, Self.maximumFileRows)
    fileSets = Array(repeating: nil, count: fileRows + 1)
    fileCounters = .allocate(capacity: fileRows + 1)
    fileCounters.initialize(repeating: Counter(), count: fileRows + 1)
    intervals = .allocate(capacity: Self.maximumIntervals)
    intervals.initialize(repeating: Interval(), count: Self.maximumIntervals)
  }

  deinit {
    counters.deallocate()
    fileCounters.deallocate()
    intervals.deallocate()
    byOperation.forEach { $0?.deallocate() }
    windowSets.forEach { $0?.deallocate() }
    fileSets.forEach { $0?.deallocate() }
  }

  /// 0 for no bytes, then one class per power of two from 512 B: class c holds sizes up to 256 · 2^c.
  @inline(__always)
  static func sizeClass(_ bytes: Int) -> Int {
    if bytes <= 0 { return 0 }
    let bits = (bytes - 1) >> 9
    return min(sizeClasses - 1, bits == 0 ? 1 : 65 - bits.leadingZeroBitCount)
  }

  /// Counts one completed request. Times are nanoseconds after the start; `ordinal` counts the replayed requests.
  @inline(__always)
  func record(_ request: borrowing ReplayRequest, ordinal: UInt64, submitted: Int64, completed: Int64, result: Int64) {
    let service = completed &- submitted
    let lag = isTimed ? submitted &- request.dueNanoseconds : 0
    let slot = Int(request.kind.rawValue) * Self.sizeClasses + Self.sizeClass(request.lengthBytes)
    if byOperation[slot] == nil { byOperation[slot] = RawLatencySet(isTimed: isTimed) }
    byOperation[slot]!.record(lag: lag, service: service)
    if ordinal >= windowEnd || window < 0 { openWindow(ordinal) }
    windowSets[window]!.record(lag: lag, service: service)
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
    lastCompletion = completed
  }

  @inline(__always)
  private func recordSchedule(_ request: borrowing ReplayRequest, _ submitted: Int64, _ lag: Int64) {
    if lag > lagBudget { lateRequests &+= 1 }
    if lastSubmitted != .min {
      let error = (submitted &- lastSubmitted) &- (request.dueNanoseconds &- lastDue)
      interarrivalErrorSum &+= abs(error)
      interarrivals &+= 1
    }
    lastSubmitted = submitted
    lastDue = request.dueNanoseconds
  }

  @inline(__always)
  private func recordInterval(_ completed: Int64, _ bytes: UInt64, _ lag: Int64, failed: Bool) {
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
  func coarsenIntervals() {
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
  private func recordError(_ kind: IOOperation.Kind, _ code: Int32, _ slot: Int, _ row: Int) {
    errors[ErrorKey(kind: kind, code: code), default: 0] += 1
    counters[slot].errors += 1
    fileCounters[row].errors += 1
  }

  func recordDrop() { dropped += 1 }

  @inline(never)
  private func openWindow(_ ordinal: UInt64) {
    while ordinal / windowRequests >= UInt64(windowSets.count) { coarsenWindows() }
    window = Int(ordinal / windowRequests)
    if windowSets[window] == nil { windowSets[window] = RawLatencySet(isTimed: isTimed) }
    windowEnd = UInt64(window + 1) * windowRequests
  }

  /// Joins pairs of windows; rare, and only when the number of requests was not known before.
  private func coarsenWindows() {
    var series = windows
    series.coarsen()
    windowSets.forEach { $0?.deallocate() }
    windowSets = Array(repeating: nil, count: windowSets.count)
    settled.merge(series)
    windowRequests *= 2
  }
  private lazy var settled = WindowSeries(windowRequests: windowRequests)

  // MARK: Reading

  var windows: WindowSeries {
    var series = WindowSeries(windowRequests: windowRequests)
    for (i, set) in windowSets.enumerated() {
      if let set { series.set(i, set.latencies) }
    }
    series.merge(settled)
    return series
  }

  func latencies(_ kind: IOOperation.Kind, _ sizeClass: Int) -> LatencySet? {
    byOperation[Int(kind.rawValue) * Self.sizeClasses + sizeClass]?.latencies
  }

  func counter(_ kind: IOOperation.Kind, _ sizeClass: Int) -> Counter { counters[Int(kind.rawValue) * Self.sizeClasses + sizeClass] }

  var fileRowCount: Int { fileRows + 1 }
  func fileService(_ row: Int) -> LatencyHistogram { fileSets[row]?.histogram ?? LatencyHistogram() }
}
