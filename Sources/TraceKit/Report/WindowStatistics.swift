import Glibc

/// Method 4: the ratio of a quantile between two runs of the same trace, with an interval from consecutive windows of the same
/// requests. Requests follow each other too closely to count as independent; long windows nearly are.
struct WindowStatistics {
  /// One pair of windows.
  struct Pair {
    var a: LatencyHistogram
    var b: LatencyHistogram
  }

  /// An interval of ln(B ÷ A).
  struct Interval {
    var mean: Double
    var halfWidth: Double
    var windows: Int
    /// The lag-1 correlation stayed above its limit at the smallest number of windows.
    var stillCorrelated: Bool
  }

  /// Fewest windows.
  static let minimumWindows = 10

  /// The interval for quantile `q` at 95 %, or nil when the windows are too few or too short: each needs 10/(1 − q) requests.
  static func interval(_ pairs: [Pair], quantile q: Double) -> Interval? {
    var pairs = pairs.filter { $0.a.count > 0 && $0.b.count > 0 }
    let needed = UInt64((10 / (1 - q)).rounded(.up))
    while true {
      guard pairs.count >= minimumWindows else { return nil }
      let longEnough = pairs.dropLast().allSatisfy { min($0.a.count, $0.b.count) >= needed }
      let ratios = longEnough ? pairs.compactMap { ratio($0, q) } : []
      let limit = 2 / sqrt(Double(pairs.count))
      let correlation = ratios.count > 2 ? lag1(ratios) : 0
      if longEnough, ratios.count >= minimumWindows, correlation <= limit || pairs.count / 2 < minimumWindows {
        return summarize(ratios, correlated: correlation > limit)
      }
      guard pairs.count / 2 >= minimumWindows else { return nil }
      pairs = joined(pairs)
    }
  }

  private static func ratio(_ pair: Pair, _ q: Double) -> Double? {
    guard let a = pair.a.quantile(q), let b = pair.b.quantile(q), a > 0, b > 0 else { return nil }
    return log(Double(b) / Double(a))
  }

  private static func joined(_ pairs: [Pair]) -> [Pair] {
    stride(from: 0, to: pairs.count - 1, by: 2).map { i in
      var pair = pairs[i]
      pair.a.merge(pairs[i + 1].a)
      pair.b.merge(pairs[i + 1].b)
      return pair
    }
  }

  /// Lag-1 autocorrelation.
  static func lag1(_ values: [Double]) -> Double {
    let mean = values.reduce(0, +) / Double(values.count)
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    guard variance > 0 else { return 0 }
    return zip(values, values.dropFirst()).reduce(0) { $0 + ($1.0 - mean) * ($1.1 - mean) } / variance
  }

  private static func summarize(_ values: [Double], correlated: Bool) -> Interval {
    let count = Double(values.count)
    let mean = values.reduce(0, +) / count
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (count - 1)
    let t = StudentT.twoSided(confidence: 0.95, degreesOfFreedom: values.count - 1)
    return Interval(mean: mean, halfWidth: t * sqrt(variance / count), windows: values.count, stillCorrelated: correlated)
  }
}
