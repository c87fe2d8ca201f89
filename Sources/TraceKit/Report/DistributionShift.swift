/// Descriptive differences of two distributions: no probability is claimed.
enum DistributionShift {
  /// Percentiles of the shift curve.
  static let percentiles: [Double] = [1] + stride(from: 5.0, through: 95, by: 5) + [97.5, 99, 99.5, 99.9, 99.99, 99.999]

  /// The percentiles that both have at least ten requests beyond.
  static func curve(_ a: LatencyHistogram, _ b: LatencyHistogram) -> [ReportDiff.ShiftPoint] {
    let count = Double(min(a.count, b.count))
    return percentiles.compactMap { percentile in
      let share = percentile / 100
      guard min(share, 1 - share) * count >= 10, let valueA = a.quantile(share), let valueB = b.quantile(share) else { return nil }
      return ReportDiff.ShiftPoint(percentile: percentile, aNanoseconds: valueA, bNanoseconds: valueB)
    }
  }

  /// Wasserstein-1 distance in nanoseconds: the area between the two distribution functions, from the buckets' middles; nil
  /// without values.
  static func wasserstein(_ a: LatencyHistogram, _ b: LatencyHistogram) -> Double? {
    guard a.count > 0, b.count > 0 else { return nil }
    var (seenA, seenB) = (0.0, 0.0)
    var (area, last) = (0.0, 0.0)
    var (i, j) = (0, 0)
    let (bucketsA, bucketsB) = (a.filledBuckets, b.filledBuckets)
    while i < bucketsA.count || j < bucketsB.count {
      let bucket = min(i < bucketsA.count ? bucketsA[i].bucket : Int.max, j < bucketsB.count ? bucketsB[j].bucket : Int.max)
      let value = Double(LatencyHistogram.middle(bucket))
      area += abs(seenA - seenB) * (value - last)
      last = value
      if i < bucketsA.count, bucketsA[i].bucket == bucket {
        seenA += Double(bucketsA[i].count) / Double(a.count)
        i += 1
      }
      if j < bucketsB.count, bucketsB[j].bucket == bucket {
        seenB += Double(bucketsB[j].count) / Double(b.count)
        j += 1
      }
    }
    return area
  }
}
