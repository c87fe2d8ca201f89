import Glibc

/// Which difference a t test over pairs of runs finds.
public enum DetectableDifference {
  /// The chance to find a log ratio of `difference` with `pairs` pairs at 5 % (two-sided), when the log ratios of pairs have the
  /// standard deviation `deviation`: the upper tail of the noncentral t distribution, integrated over the chi distribution.
  public static func power(_ difference: Double, deviation: Double, pairs: Int) -> Double {
    guard pairs >= 2 else { return 0 }
    guard deviation > 0 else { return difference > 0 ? 1 : 0 }
    return power(noncentrality: difference * sqrt(Double(pairs)) / deviation, pairs: pairs)
  }

  /// The smallest log ratio that is found with a chance of `power`; nil with fewer than two pairs.
  public static func smallest(deviation: Double, pairs: Int, power wanted: Double = 0.8) -> Double? {
    guard pairs >= 2 else { return nil }
    var (low, high) = (0.0, 1.0)
    while power(noncentrality: high, pairs: pairs) < wanted, high < 1e6 { high *= 2 }
    for _ in 0..<60 {
      let middle = (low + high) / 2
      if power(noncentrality: middle, pairs: pairs) < wanted { low = middle } else { high = middle }
    }
    return high * deviation / sqrt(Double(pairs))
  }

  private static func power(noncentrality: Double, pairs: Int) -> Double {
    let degrees = Double(pairs - 1)
    let limit = StudentT.twoSided(confidence: 0.95, degreesOfFreedom: pairs - 1)
    // u = s ÷ σ has the density below; Simpson's rule over where it is not negligible.
    let scale = log(2) + degrees / 2 * log(degrees / 2) - lgamma(degrees / 2)
    let (steps, end) = (400, 1 + 8 / sqrt(2 * degrees))
    var sum = 0.0
    for i in 0...steps {
      let u = end * Double(i) / Double(steps)
      let density = u > 0 ? exp(scale + (degrees - 1) * log(u) - degrees * u * u / 2) : degrees == 1 ? exp(scale) : 0
      let weight = i == 0 || i == steps ? 1.0 : i % 2 == 1 ? 4 : 2
      sum += weight * density * erfc((limit * u - noncentrality) / sqrt(2)) / 2
    }
    return sum * end / Double(steps) / 3
  }
}
