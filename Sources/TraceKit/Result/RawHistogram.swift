/// The histogram of the hot path: `LatencyHistogram`'s layout on plain memory that one worker owns, without any check.
struct RawHistogram {
  private let counts: UnsafeMutablePointer<UInt64>
  private(set) var count: UInt64 = 0
  private var sum: UInt64 = 0
  private var smallest = Int64.max
  private var largest = Int64.min

  /// - Parameter isUsed: false for one that is never recorded into, and takes no memory.
  init(isUsed: Bool = true) {
    let buckets = isUsed ? LatencyHistogram.bucketCount : 0
    counts = .allocate(capacity: buckets)
    counts.initialize(repeating: 0, count: buckets)
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

  /// Empties it.
  mutating func reset() {
    if count > 0 { counts.update(repeating: 0, count: LatencyHistogram.bucketCount) }
    count = 0
    sum = 0
    smallest = Int64.max
    largest = Int64.min
  }

  /// Its values, in as much memory as they need.
  var sparse: SparseHistogram {
    let filled = count == 0 ? [] : (0..<LatencyHistogram.bucketCount).filter { counts[$0] > 0 }.map { (bucket: $0, count: counts[$0]) }
    return SparseHistogram(buckets: filled, sumNanoseconds: sum, smallest: smallest, largest: largest)
  }

  /// Its values as a histogram that can be kept.
  var histogram: LatencyHistogram { sparse.histogram }
}

/// The filled buckets of a histogram.
struct SparseHistogram {
  var buckets: [(bucket: Int, count: UInt64)]
  var sumNanoseconds: UInt64
  var smallest: Int64
  var largest: Int64

  init(buckets: [(bucket: Int, count: UInt64)], sumNanoseconds: UInt64, smallest: Int64, largest: Int64) {
    self.buckets = buckets
    self.sumNanoseconds = sumNanoseconds
    self.smallest = smallest
    self.largest = largest
  }

  init(_ histogram: LatencyHistogram) {
    self.init(
      buckets: histogram.filledBuckets, sumNanoseconds: histogram.sumNanoseconds, smallest: histogram.minimum ?? 0,
      largest: histogram.maximum ?? 0)
  }

  var histogram: LatencyHistogram {
    let isEmpty = buckets.isEmpty
    return LatencyHistogram(
      buckets: buckets, sumNanoseconds: sumNanoseconds, minimum: isEmpty ? nil : smallest, maximum: isEmpty ? nil : largest)
      ?? LatencyHistogram()
  }
}
