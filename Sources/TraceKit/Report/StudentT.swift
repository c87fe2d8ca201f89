import Glibc

/// Student's t distribution: the quantiles that intervals need. Formulas: Abramowitz & Stegun, Handbook of Mathematical Functions,
/// 26.5.8 (continued fraction of the incomplete beta function) and 26.7.1.
enum StudentT {
  /// The value that a t-distributed variable exceeds in absolute terms with probability 1 − `confidence`.
  static func twoSided(confidence: Double, degreesOfFreedom: Int) -> Double {
    let wanted = 1 - confidence
    var (low, high) = (0.0, 1.0)
    while tail(high, degreesOfFreedom) > wanted, high < 1e9 { high *= 2 }
    for _ in 0..<200 {
      let middle = (low + high) / 2
      if tail(middle, degreesOfFreedom) > wanted { low = middle } else { high = middle }
    }
    return (low + high) / 2
  }

  /// P(T > t).
  static func upperTail(_ t: Double, degreesOfFreedom: Int) -> Double {
    guard t.isFinite else { return t > 0 ? 0 : 1 }
    let half = tail(t, degreesOfFreedom) / 2
    return t >= 0 ? half : 1 - half
  }

  /// P(|T| > t).
  private static func tail(_ t: Double, _ degrees: Int) -> Double {
    let n = Double(degrees)
    return incompleteBeta(n / (n + t * t), n / 2, 0.5)
  }

  /// Regularised incomplete beta function I_x(a, b).
  static func incompleteBeta(_ x: Double, _ a: Double, _ b: Double) -> Double {
    if x <= 0 { return 0 }
    if x >= 1 { return 1 }
    let front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1 - x))
    if x < (a + 1) / (a + b + 2) { return front * fraction(x, a, b) / a }
    return 1 - front * fraction(1 - x, b, a) / b
  }

  /// The continued fraction, by Lentz's method.
  private static func fraction(_ x: Double, _ a: Double, _ b: Double) -> Double {
    let tiny = 1e-300
    func away(_ value: Double) -> Double { abs(value) < tiny ? tiny : value }
    var c = 1.0
    var d = 1 / away(1 - (a + b) * x / (a + 1))
    var result = d
    for m in 1...500 {
      let i = Double(m)
      let even = i * (b - i) * x / ((a + 2 * i - 1) * (a + 2 * i))
      d = 1 / away(1 + even * d)
      c = away(1 + even / c)
      result *= d * c
      let odd = -(a + i) * (a + b + i) * x / ((a + 2 * i) * (a + 2 * i + 1))
      d = 1 / away(1 + odd * d)
      c = away(1 + odd / c)
      result *= d * c
      if abs(d * c - 1) < 1e-14 { break }
    }
    return result
  }
}
