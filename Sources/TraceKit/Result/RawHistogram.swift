/// The histogram of the hot path: `LatencyHistogram`'s layout on plain memory that one worker owns, without any check.
struct RawHistogram {
  private let counts: UnsafeMutablePointer<UInt64>
  private(set) var count: UInt64 = 0
  private var sum: UInt64 = 0
  private var smallest = Int64.max
  private var largest = Int64.min

  init() {
    counts = .allocate(capacity: LatencyHistogram.bucketCount)
    counts.initialize(repeating: 0, count: LatencyHistogram.bucketCount)
  }

  func deallocate() { counts.deallocate() }

  @inline(__always)
  mutating func record(_ nanoseconds: Int64) {
    counts[LatencyHistogram.bucket(nanoseconds)] &+= 1
    count &+= 1
    sum &+= UInt64(bitPattern: nanoseconds)
    if nanoseconds < smallest { smallest = nanoseconds }
    if nanoseconds > largest { largest = nanoseconds }
  }

  /// Its values as a histogram that can be kept.
  var histogram: LatencyHistogram {
    let filled = (0..<LatencyHistogram.bucketCount).filter { counts[$0] > 0 }.map { (bucket: $0, count: counts[$0]) }
    return LatencyHistogram(
      buckets: filled, sumNanoseconds: sum, minimum: count == 0 ? nil : smallest, maximum: count == 0 ? nil : largest)
      ?? LatencyHistogram()
  }
}
