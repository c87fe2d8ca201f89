import Glibc

/// Method 4: the ratio of a quantile between two runs of the same trace, with an interval from consecutive windows of the same
/// requests. Requests follow each other too closely to count as independent; long windows nearly are.
public struct WindowStatistics {
  /// One pair of windows: the latencies of the same requests in both runs.
  public struct Pair {
    public var a: LatencyHistogram
    public var b: LatencyHistogram
    public init(a: LatencyHistogram, b: LatencyHistogram) {
      self.a = a
      self.b = b
    }
  }

  /// Fewest windows.
  public static let minimumWindows = 10

  /// The estimate for quantile `q`, or nil when the windows are too few or too short: each needs 10/(1 − q) requests. Windows are
  /// joined (30, 15, 10 of them) while neighbours are correlated; what correlation remains widens the interval.
  public static func estimate(_ pairs: [Pair], quantile q: Double) -> RatioEstimate? {
    let pairs = withoutStub(pairs.filter { $0.a.count > 0 && $0.b.count > 0 })
    let needed = UInt64((10 / (1 - q)).rounded(.up))
    var last: RatioEstimate?
    for joined in joinings(of: pairs.count) {
      let windows = joined == 1 ? pairs : Self.joined(pairs, joined)
      guard windows.dropLast().allSatisfy({ min($0.a.count, $0.b.count) >= needed }) else { continue }
      let ratios = windows.compactMap { ratio($0, q) }
      guard ratios.count >= minimumWindows, var estimate = RatioEstimate(ratios) else { continue }
      let correlation = lag1(ratios)
      // The variance of the mean of an AR(1) process is (1 + ρ)/(1 − ρ) times that of independent values. Without this the rule
      // alone gives 13 % false alarms in the simulation of the tests, because a correlation below its limit still counts.
      let remaining = min(0.9, max(0, correlation))
      estimate.standardError *= sqrt((1 + remaining) / (1 - remaining))
      estimate.isCorrelated = correlation > 2 / sqrt(Double(ratios.count))
      if !estimate.isCorrelated { return estimate }
      last = estimate
    }
    return last
  }

  /// How many neighbours make one window: all windows, half of them, and as few as may be.
  static func joinings(of windows: Int) -> [Int] {
    guard windows >= minimumWindows else { return [] }
    return [1, 2, windows / minimumWindows].filter { windows / $0 >= minimumWindows }.reduce(into: []) {
      if $0.last != $1 { $0.append($1) }
    }
  }

  private static func ratio(_ pair: Pair, _ q: Double) -> Double? {
    guard let a = pair.a.quantile(q), let b = pair.b.quantile(q), a > 0, b > 0 else { return nil }
    return log(Double(b) / Double(a))
  }

  /// The last window is what was left over; one of less than half a window's requests joins the one before it.
  private static func withoutStub(_ pairs: [Pair]) -> [Pair] {
    guard pairs.count > 1, let last = pairs.last, min(last.a.count, last.b.count) < min(pairs[0].a.count, pairs[0].b.count) / 2 else {
      return pairs
    }
    var kept = Array(pairs.dropLast())
    kept[kept.count - 1].a.merge(last.a)
    kept[kept.count - 1].b.merge(last.b)
    return kept
  }

  /// Windows of `size` neighbours; what is left over joins the last one.
  static func joined(_ pairs: [Pair], _ size: Int) -> [Pair] {
    let count = pairs.count / size
    return (0..<count).map { i in
      var pair = pairs[i * size]
      for other in pairs[i * size + 1..<(i == count - 1 ? pairs.count : (i + 1) * size)] {
        pair.a.merge(other.a)
        pair.b.merge(other.b)
      }
      return pair
    }
  }

  /// Lag-1 autocorrelation.
  static func lag1(_ values: [Double]) -> Double {
    guard values.count > 2 else { return 0 }
    let mean = values.reduce(0, +) / Double(values.count)
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    guard variance > 0 else { return 0 }
    return zip(values, values.dropFirst()).reduce(0) { $0 + ($1.0 - mean) * ($1.1 - mean) } / variance
  }
}
