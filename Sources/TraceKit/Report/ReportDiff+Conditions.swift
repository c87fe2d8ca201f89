extension ReportDiff {
  /// A condition in which the runs differ.
  public struct Difference: Codable, Hashable, Sendable {
    public var name: String
    public var a: String
    public var b: String
    /// It makes the comparison meaningless unless one knows why; the user allowed it by name.
    public var isOverridden: Bool
    enum CodingKeys: String, CodingKey {
      case name, a, b
      case isOverridden = "overridden"
    }
  }

  /// One figure of both sides; of several runs the mean, of rates and times the geometric mean.
  public struct Total: Codable, Hashable, Sendable {
    /// `requests`, `iops`, `bytes_per_second`, `elapsed_ns`, `bytes_read`, `bytes_written`, `cpu_ns_per_request`, `errors`,
    /// `short_transfers`.
    public var name: String
    @Nullable public var a: Double?
    @Nullable public var b: Double?
    /// B ÷ A; null when A is 0 or not known.
    @Nullable public var ratio: Double?
    /// Only rates and CPU time, and only from several pairs of runs.
    @Nullable public var interval: Interval?
  }

  /// A limit that was asked for with `--fail-on`.
  public struct Gate: Codable, Hashable, Sendable {
    public enum Result: String, Codable, Sendable, CaseIterable {
      /// The whole interval lies beyond the limit.
      case fails
      /// The whole interval lies within the limit.
      case holds
      case inconclusive
      case insufficient
      /// The replay was unfaithful.
      case vetoed
    }
    /// As it was given: `p99>5%`.
    public var expression: String
    /// What it is about: `service.p99`, `iops`.
    public var metric: String
    /// The change at which it begins to fail: 0.05 for more than 5 % more, −0.03 for more than 3 % less.
    public var limit: Double
    /// It fails above the limit; false: below.
    public var failsAbove: Bool
    @Nullable public var interval: Interval?
    /// One-sided: how probable such figures are if the true change lies exactly at the limit.
    @Nullable public var pValue: Double?
    /// Corrected for the number of gates (Holm); the gate fails below 0.025.
    @Nullable public var adjustedPValue: Double?
    public var result: Result
    @Nullable public var reason: String?
    enum CodingKeys: String, CodingKey {
      case expression, metric, limit
      case failsAbove = "fails_above"
      case interval
      case pValue = "p_value"
      case adjustedPValue = "adjusted_p_value"
      case result, reason
    }
  }
}
