import Glibc

/// Whether figures of consecutive windows rise or fall over a run: the slope of a straight line, with neighbours joined until what
/// the line leaves over is hardly correlated, as in method 4. Without that, slow fluctuation passes for a trend.
public enum TrendTest {
  public struct Trend: Hashable, Sendable {
    /// Fitted change from the first to the last window.
    public var change: Double
    /// Two-sided: how probable such a slope is without a trend.
    public var pValue: Double
    /// Windows after joining.
    public var windows: Int
  }

  /// - Parameter values: one figure per window, in order.
  /// - Returns: nil with fewer than 10 windows.
  public static func trend(_ values: [Double]) -> Trend? {
    guard values.count >= WindowStatistics.minimumWindows, values.allSatisfy(\.isFinite) else { return nil }
    var found: Trend?
    for size in WindowStatistics.joinings(of: values.count) {
      let joined = means(values, size)
      let (trend, residuals) = fit(joined)
      found = trend
      if WindowStatistics.lag1(residuals) <= 2 / sqrt(Double(joined.count)) { break }
    }
    return found
  }

  private static func means(_ values: [Double], _ size: Int) -> [Double] {
    let count = values.count / size
    return (0..<count).map { i in
      let part = values[i * size..<(i == count - 1 ? values.count : (i + 1) * size)]
      return part.reduce(0, +) / Double(part.count)
    }
  }

  private static func fit(_ values: [Double]) -> (Trend, residuals: [Double]) {
    let count = Double(values.count)
    let middle = (count - 1) / 2
    let mean = values.reduce(0, +) / count
    let spread = values.indices.reduce(0) { $0 + (Double($1) - middle) * (Double($1) - middle) }
    let slope = values.indices.reduce(0) { $0 + (Double($1) - middle) * (values[$1] - mean) } / spread
    let residuals = values.indices.map { values[$0] - mean - slope * (Double($0) - middle) }
    // Slow fluctuation that is left widens the error as in WindowStatistics. A fitted line takes correlation out of what it leaves
    // over, about (2 + 4ρ)/m of it, which is put back.
    let left = max(0, WindowStatistics.lag1(residuals))
    let correlation = min(0.9, max(0, WindowStatistics.lag1(residuals) + (2 + 4 * left) / count))
    let inflation = (1 + correlation) / (1 - correlation)
    let variance = residuals.reduce(0) { $0 + $1 * $1 } / (count - 2)
    let error = sqrt(variance * inflation / spread)
    let t = error > 0 ? abs(slope) / error : slope == 0 ? 0 : Double.infinity
    let degrees = max(3, Int(count / inflation) - 2)
    let pValue = min(1, 2 * StudentT.upperTail(t, degreesOfFreedom: degrees))
    return (Trend(change: slope * (count - 1), pValue: pValue, windows: values.count), residuals)
  }
}
