/// The comparison of runs of the same trace: a plain value that holds everything that is shown. Changes are B ÷ A − 1 (0.05 is
/// five per cent more); docs/comparing.md says what each figure means and how it is computed.
public struct ReportDiff: Codable, Sendable {
  public static let schemaName = "trace-replay-diff"
  public static let schemaVersion = "2.0.0"

  /// What was compared, for a heading.
  public struct Side: Codable, Hashable, Sendable {
    /// What stands for the side: the operand, or engine and target; safe to print.
    public var name: String
    /// File names of its runs in the order in which they are paired, safe to print; empty for runs that were not read from files.
    public var runs: [String]
    /// `report`, `log` (a trace that a replay wrote) or `recording` (a trace as it was recorded).
    public var source: Source
    @Nullable public var engine: String?
    /// Unix time of the first run in nanoseconds.
    @Nullable public var createdUnixNanoseconds: Int64?

    public enum Source: String, Codable, Sendable { case report, log, recording }
    enum CodingKeys: String, CodingKey {
      case name, runs, source, engine
      case createdUnixNanoseconds = "created_unix_ns"
    }
  }

  public var schema: ReplayReport.Schema
  public var a: Side
  public var b: Side
  /// Digest of the trace; null when it is not known.
  @Nullable public var digest: String?
  /// Method of the intervals of quantiles.
  public var method: Method
  /// Pairs of runs that were compared.
  public var pairs: Int
  /// A change within this many per cent counts as equivalent.
  public var marginPercent: Double
  /// Which latency decides: `service` at maximum speed and against a recording, `response` when timed.
  public var primary: LatencyKind
  /// The verdict over the quantiles of the primary latency together (corrected by Holm).
  public var verdict: Verdict
  /// Reasons why no verdict counts: an unfaithful or partial replay, failed requests.
  public var vetoes: [String]
  /// Conditions in which the runs differ.
  public var differences: [Difference]
  public var totals: [Total]
  /// The primary latency first. At maximum speed there is only service.
  public var latencies: [Latency]
  public var gates: [Gate]
  /// By operation; service latency.
  public var operations: [Operation]
  /// Request against request; null without logs.
  @Nullable public var paired: Paired?
  /// Trends over the run that were found; empty when it was steady.
  public var drifts: [Drift]
  /// Sentences that a reader must know: windows that were left out, conditions that are not known.
  public var notes: [String]

  enum CodingKeys: String, CodingKey {
    case schema, a, b, digest, method, pairs
    case marginPercent = "margin_percent"
    case primary, verdict, vetoes, differences, totals, latencies, gates, operations, paired, drifts, notes
  }

  /// The latency that decides.
  public var primaryLatency: Latency? { latencies.first { $0.kind == primary } }
}
