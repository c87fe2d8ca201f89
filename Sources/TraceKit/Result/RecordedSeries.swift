/// What the recording itself did over time: requests, bytes and latencies by consecutive intervals of recorded time. Of fixed size:
/// the intervals' width doubles (neighbours are added up) when requests lie beyond the last one.
struct RecordedSeries: ~Copyable {
  static let maximumIntervals = 600
  /// Width of the intervals before the first doubling.
  static let finestNanoseconds: Int64 = 1_000_000

  /// One interval's sums.
  struct Interval: Equatable {
    var requests: UInt64 = 0
    var bytesRead: UInt64 = 0
    var bytesWritten: UInt64 = 0
    /// Sum of the latencies that were recorded, and their number.
    var latencyNanoseconds: UInt64 = 0
    var latencies: UInt64 = 0

    static func + (a: Interval, b: Interval) -> Interval {
      Interval(
        requests: a.requests &+ b.requests, bytesRead: a.bytesRead &+ b.bytesRead, bytesWritten: a.bytesWritten &+ b.bytesWritten,
        latencyNanoseconds: a.latencyNanoseconds &+ b.latencyNanoseconds, latencies: a.latencies &+ b.latencies)
    }
  }

  private(set) var intervalNanoseconds = finestNanoseconds
  private let slots: UnsafeMutablePointer<Interval>
  /// Number of the last interval that has a request, plus one.
  private(set) var count = 0
  /// The interval of the previous request: most requests follow in the same one.
  private var slot: UnsafeMutablePointer<Interval>
  private var slotStart: Int64 = 0
  private var slotEnd: Int64 = 0
  private var latencies = RawHistogram()

  init() {
    slots = .allocate(capacity: Self.maximumIntervals)
    slots.initialize(repeating: Interval(), count: Self.maximumIntervals)
    slot = slots
  }

  deinit {
    slots.deallocate()
    latencies.deallocate()
  }

  /// Counts one request.
  /// - Parameters:
  ///   - startNanoseconds: recorded time after the first request; earlier counts as 0.
  ///   - bytes: bytes that a read or a write moved; not counted for other requests.
  ///   - latencyNanoseconds: the recorded latency, negative when it is not known.
  @inline(__always)
  mutating func add(startNanoseconds: Int64, isRead: Bool, isWrite: Bool, bytes: UInt64, latencyNanoseconds: Int64) {
    let time = max(0, startNanoseconds)
    if time < slotStart || time >= slotEnd { open(time) }
    slot.pointee.requests &+= 1
    if isRead { slot.pointee.bytesRead &+= bytes }
    if isWrite { slot.pointee.bytesWritten &+= bytes }
    if latencyNanoseconds >= 0 {
      slot.pointee.latencyNanoseconds &+= UInt64(latencyNanoseconds)
      slot.pointee.latencies &+= 1
      latencies.record(latencyNanoseconds)
    }
  }

  @inline(never)
  private mutating func open(_ time: Int64) {
    while time / intervalNanoseconds >= Int64(Self.maximumIntervals) { widen() }
    let index = time / intervalNanoseconds
    slot = slots + Int(index)
    slotStart = index * intervalNanoseconds
    slotEnd = slotStart &+ intervalNanoseconds
    count = max(count, Int(index) + 1)
  }

  /// Joins pairs of intervals.
  mutating func widen() {
    let half = Self.maximumIntervals / 2
    for i in 0..<half { slots[i] = slots[2 * i] + slots[2 * i + 1] }
    (slots + half).update(repeating: Interval(), count: half)
    intervalNanoseconds *= 2
    count = (count + 1) / 2
    slotEnd = slotStart
  }

  /// The latencies that were recorded; empty when none was.
  var latency: LatencyHistogram { latencies.histogram }

  /// The intervals from time 0 to the last request.
  var intervals: [Interval] { (0..<count).map { slots[$0] } }
}
