extension ReportDiff {
  /// One of the three latencies of a replay.
  public enum LatencyKind: String, Codable, Sendable, CaseIterable {
    case response, service, lag
  }

  /// One latency of both sides.
  public struct Latency: Codable, Hashable, Sendable {
    public var kind: LatencyKind
    /// Requests of the shortest run of each side.
    public var requestsA: UInt64
    public var requestsB: UInt64
    public var quantiles: [Quantile]
    /// Descriptive: the difference by percentile, all runs of a side together.
    public var shift: [ShiftPoint]
    /// Descriptive: the mean distance between the two distributions (Wasserstein-1), in nanoseconds and as a share of A's mean.
    @Nullable public var wassersteinNanoseconds: Double?
    @Nullable public var wassersteinShare: Double?
    enum CodingKeys: String, CodingKey {
      case kind
      case requestsA = "requests_a"
      case requestsB = "requests_b"
      case quantiles, shift
      case wassersteinNanoseconds = "wasserstein_ns"
      case wassersteinShare = "wasserstein_share"
    }
  }

  /// One latency quantile of both sides.
  public struct Quantile: Codable, Hashable, Sendable {
    /// `p50`, `p90`, `p99`, `p99_9`, `p99_99`.
    public var quantile: String
    /// The share of requests at or below it, 0…1.
    public var share: Double
    /// Of several runs the geometric mean.
    @Nullable public var aNanoseconds: Int64?
    @Nullable public var bNanoseconds: Int64?
    /// B ÷ A of these two values.
    @Nullable public var ratio: Double?
    /// Null when there is too little for one.
    @Nullable public var interval: Interval?
    public var verdict: Verdict
    /// Why it is insufficient.
    @Nullable public var reason: String?
    enum CodingKeys: String, CodingKey {
      case quantile, share
      case aNanoseconds = "a_ns"
      case bNanoseconds = "b_ns"
      case ratio, interval, verdict, reason
    }
    /// The quantile for people: `p99.9`.
    public var name: String { String(quantile.map { $0 == "_" ? "." : $0 }) }
  }

  /// One percentile of both distributions.
  public struct ShiftPoint: Codable, Hashable, Sendable {
    /// 0…100.
    public var percentile: Double
    public var aNanoseconds: Int64
    public var bNanoseconds: Int64
    enum CodingKeys: String, CodingKey {
      case percentile
      case aNanoseconds = "a_ns"
      case bNanoseconds = "b_ns"
    }
  }

  /// The service latency of one operation.
  public struct Operation: Codable, Hashable, Sendable {
    public var operation: String
    /// Of all runs of a side together.
    public var requestsA: UInt64
    public var requestsB: UInt64
    public var errorsA: UInt64
    public var errorsB: UInt64
    /// Intervals only from several pairs of runs: windows are not kept by operation.
    public var quantiles: [Quantile]
    enum CodingKeys: String, CodingKey {
      case operation
      case requestsA = "requests_a"
      case requestsB = "requests_b"
      case errorsA = "errors_a"
      case errorsB = "errors_b"
      case quantiles
    }
  }

  /// A trend over a run, from its consecutive windows.
  public struct Drift: Codable, Hashable, Sendable {
    /// What drifts: `A`, `B` (the median latency of its windows) or `B/A` (the ratio of the medians).
    public var what: String
    public var latency: LatencyKind
    /// Change from the first to the last window by the fitted line.
    public var change: Double
    /// Two-sided.
    public var pValue: Double
    public var windows: Int
    enum CodingKeys: String, CodingKey {
      case what, latency, change
      case pValue = "p_value"
      case windows
    }
  }
}
