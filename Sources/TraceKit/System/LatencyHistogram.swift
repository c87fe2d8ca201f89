/// Counts of durations in a fixed log-linear layout: values below 128 ns exactly, above that 128 buckets per power of two, up
/// to 2^44 ns (4.9 hours); relative error below 1 %. All histograms share the layout, so they add exactly, in any order.
public struct LatencyHistogram: Hashable, Sendable {
  /// Buckets below the first power of two, and per power of two.
  public static let subBuckets = 128
  public static let bucketCount = subBuckets + (44 - 7) * subBuckets

  /// Empty until the first value.
  private var counts: [UInt64] = []
  public private(set) var count: UInt64 = 0
  /// Sum of all values in nanoseconds.
  public private(set) var sumNanoseconds: UInt64 = 0
  private var smallest = Int64.max
  private var largest = Int64.min

  public init() {}

  /// Bucket of a value; negative values count as 0, values of 2^44 ns and more go to the last bucket.
  @inlinable @inline(__always)
  public static func bucket(_ nanoseconds: Int64) -> Int {
    if nanoseconds < 128 { return nanoseconds < 0 ? 0 : Int(nanoseconds) }
    if nanoseconds >= 1 << 44 { return bucketCount - 1 }
    let shift = 56 - nanoseconds.leadingZeroBitCount
    return shift * subBuckets + Int(nanoseconds >> Int64(shift))
  }

  /// Smallest value of a bucket, in nanoseconds.
  public static func lowerBound(_ bucket: Int) -> Int64 {
    if bucket < subBuckets { return Int64(bucket) }
    let shift = bucket / subBuckets - 1
    return Int64(bucket % subBuckets + subBuckets) << Int64(shift)
  }

  /// The value that stands for a bucket: its middle.
  static func middle(_ bucket: Int) -> Int64 {
    if bucket < subBuckets { return Int64(bucket) }
    return lowerBound(bucket) + (Int64(1) << Int64(bucket / subBuckets - 1)) / 2
  }

  /// Adds one value.
  @inline(__always)
  public mutating func record(_ nanoseconds: Int64) {
    if counts.isEmpty { counts = [UInt64](repeating: 0, count: Self.bucketCount) }
    counts[Self.bucket(nanoseconds)] &+= 1
    count &+= 1
    sumNanoseconds &+= UInt64(max(0, nanoseconds))
    if nanoseconds < smallest { smallest = nanoseconds }
    if nanoseconds > largest { largest = nanoseconds }
  }

  /// Adds all values of another histogram.
  public mutating func merge(_ other: LatencyHistogram) {
    guard other.count > 0 else { return }
    if counts.isEmpty {
      self = other
      return
    }
    for i in Self.bucket(other.smallest)...Self.bucket(other.largest) { counts[i] &+= other.counts[i] }
    count &+= other.count
    sumNanoseconds &+= other.sumNanoseconds
    smallest = min(smallest, other.smallest)
    largest = max(largest, other.largest)
  }

  /// Smallest and largest value, exact; nil without values.
  public var minimum: Int64? { count == 0 ? nil : smallest }
  public var maximum: Int64? { count == 0 ? nil : largest }
  /// Mean in nanoseconds, from the exact sum.
  public var mean: Double? { count == 0 ? nil : Double(sumNanoseconds) / Double(count) }

  /// The value below or at which a share `q` (0…1) of the values lies, within 0.4 %; nil without values. O(buckets).
  public func quantile(_ q: Double) -> Int64? {
    guard count > 0 else { return nil }
    let rank = max(1, UInt64((q * Double(count)).rounded(.up)))
    if rank >= count { return largest }
    var seen: UInt64 = 0
    for bucket in Self.bucket(smallest)...Self.bucket(largest) where counts[bucket] > 0 {
      seen &+= counts[bucket]
      if seen >= rank { return min(max(Self.middle(bucket), smallest), largest) }
    }
    return largest
  }

  /// The buckets that hold values: pairs of bucket number and count, in order.
  public var filledBuckets: [(bucket: Int, count: UInt64)] {
    counts.indices.filter { counts[$0] > 0 }.map { ($0, counts[$0]) }
  }

  /// A histogram from its parts, or nil when they contradict each other.
  public init?(buckets: [(bucket: Int, count: UInt64)], sumNanoseconds: UInt64, minimum: Int64?, maximum: Int64?) {
    guard !buckets.isEmpty else { return }
    guard let minimum, let maximum, minimum <= maximum else { return nil }
    counts = [UInt64](repeating: 0, count: Self.bucketCount)
    for (bucket, value) in buckets {
      guard bucket >= 0, bucket < Self.bucketCount else { return nil }
      let (total, overflow) = count.addingReportingOverflow(value)
      guard !overflow else { return nil }
      counts[bucket] &+= value
      count = total
    }
    self.sumNanoseconds = sumNanoseconds
    smallest = minimum
    largest = maximum
  }
}
