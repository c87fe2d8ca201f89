import Glibc

/// The mean of some log ratios that count as independent, and how well it is known: Student's t.
public struct RatioEstimate: Hashable, Sendable {
  /// ln(B ÷ A).
  public var mean: Double
  public var standardError: Double
  /// Values that it rests on; the degrees of freedom are one less.
  public var count: Int
  /// The values were consecutive windows, and neighbours remained correlated.
  public var isCorrelated = false

  /// - Parameter logRatios: at least two, finite; otherwise there is no estimate.
  public init?(_ logRatios: [Double]) {
    guard logRatios.count >= 2, logRatios.allSatisfy(\.isFinite) else { return nil }
    count = logRatios.count
    mean = logRatios.reduce(0, +) / Double(count)
    let middle = mean
    let variance = logRatios.reduce(0) { $0 + ($1 - middle) * ($1 - middle) } / Double(count - 1)
    standardError = sqrt(variance / Double(count))
  }

  /// Half the width of the 95 % interval.
  public var halfWidth: Double { StudentT.twoSided(confidence: 0.95, degreesOfFreedom: count - 1) * standardError }

  /// One-sided: how probable an estimate as far above `limit` (below it, for `above` false) is when the truth lies at the limit.
  public func pValue(above: Bool, limit: Double) -> Double {
    let distance = above ? mean - limit : limit - mean
    guard standardError > 0 else { return distance > 0 ? 0 : 1 }
    return StudentT.upperTail(distance / standardError, degreesOfFreedom: count - 1)
  }

  /// As the diff shows it.
  func interval(_ method: ReportDiff.Method) -> ReportDiff.Interval {
    ReportDiff.Interval(
      method: method, change: expm1(mean), changeLow: expm1(mean - halfWidth), changeHigh: expm1(mean + halfWidth), count: count,
      meanLogRatio: mean, standardError: standardError, isCorrelated: isCorrelated)
  }
}

extension ReportDiff.Interval {
  var estimate: RatioEstimate {
    RatioEstimate(mean: meanLogRatio, standardError: standardError, count: count, isCorrelated: isCorrelated)
  }

  /// Where the interval lies, for a figure of which more is worse. `margin` is a share.
  func verdict(margin: Double) -> ReportDiff.Verdict {
    if changeLow > margin { return .regression }
    if changeHigh < -margin { return .improvement }
    return changeLow >= -margin && changeHigh <= margin ? .equivalent : .inconclusive
  }
}

extension RatioEstimate {
  init(mean: Double, standardError: Double, count: Int, isCorrelated: Bool) {
    self.mean = mean
    self.standardError = standardError
    self.count = count
    self.isCorrelated = isCorrelated
  }
}
