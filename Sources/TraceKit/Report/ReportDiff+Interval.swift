extension ReportDiff {
  /// How an interval comes about.
  public enum Method: String, Codable, Sendable {
    /// Student's t over the log ratios of pairs of runs: says what another pair of runs would show.
    case pairsOfRuns = "pairs of runs"
    /// Student's t over the log ratios of consecutive windows of the same requests of one pair of runs.
    case windowsOfOnePair = "windows of one pair"

    /// What must be said next to the interval.
    public var label: String {
      switch self {
      case .pairsOfRuns: "over pairs of runs"
      case .windowsOfOnePair: "within this pair only, says nothing about run-to-run variation"
      }
    }
  }

  /// What an interval says about a difference.
  public enum Verdict: String, Codable, Sendable, CaseIterable {
    /// B is worse by more than the margin.
    case regression
    /// B is better by more than the margin.
    case improvement
    /// The difference lies within the margin.
    case equivalent
    /// The interval does not tell.
    case inconclusive
    /// Too few requests or runs for a statement.
    case insufficient
  }

  /// A 95 % interval of a change.
  public struct Interval: Codable, Hashable, Sendable {
    public var method: Method
    /// exp of the mean log ratio, minus 1: the middle of the interval.
    public var change: Double
    public var changeLow: Double
    public var changeHigh: Double
    /// Pairs of runs, or windows, that it rests on.
    public var count: Int
    /// Mean of the log ratios, and its standard error with `count` − 1 degrees of freedom.
    public var meanLogRatio: Double
    public var standardError: Double
    /// Neighbouring windows remained correlated although they were joined as far as possible: the interval is too narrow.
    public var isCorrelated: Bool
    enum CodingKeys: String, CodingKey {
      case method, change
      case changeLow = "change_low"
      case changeHigh = "change_high"
      case count
      case meanLogRatio = "mean_log_ratio"
      case standardError = "standard_error"
      case isCorrelated = "still_correlated"
    }
  }
}
