/// The report of one replay: a value with stable JSON keys. docs/replaying.md says what each figure means, docs/report-schema.json
/// what the JSON looks like.
public struct ReplayReport: Codable, Sendable {
  /// `schema.name` of every report.
  public static let schemaName = "trace-replay-report"
  /// Semantic version of the schema: the minor number grows with new keys, the major one when old readers would go wrong.
  public static let schemaVersion = "1.2.0"

  /// Name and version of the JSON's schema.
  public var schema: Schema
  /// Program and version that made the report: `trace-replay 0.1.0`.
  public var tool: String
  /// When the report was made, in nanoseconds since 1970-01-01 00:00 UTC.
  public var createdUnixNanoseconds: Int64
  /// The trace that was replayed.
  public var trace: Trace
  /// What was run, and its totals.
  public var run: Run
  /// Latencies of all requests.
  public var latency: LatencyTriple
  /// Counts and latencies by operation; those without requests are left out.
  public var operations: [Operation]
  /// Service latencies by request size, smallest first; classes without requests are left out.
  public var sizeClasses: [SizeClass]
  /// Counts and latencies of the first files of the trace's file table; the last row may stand for all others.
  public var files: [File]
  /// Latencies of up to 30 consecutive windows of requests, equal for all runs of one trace.
  public var windows: [Window]
  /// What was completed over the run's time.
  public var intervals: [Interval]
  /// Width of the intervals in nanoseconds.
  public var intervalNanoseconds: Int64
  /// What failed, by operation and error.
  public var errors: [ErrorCount]
  /// How well the replay kept to the recording.
  public var fidelity: Fidelity
  /// At most 100, the first of the file table; `targetCount` says how many there were.
  public var targets: [Target]
  /// Number of files and devices that were replayed on.
  public var targetCount: Int
  /// Remarks for people.
  public var notes: [String]
  /// The machine that replayed.
  public var host: HostFacts
  /// Settings beyond those of `run`, by name: `cache`, `seed`, options of the engine.
  public var options: [String: String]
  /// Up to 20 requests with the longest service latency, longest first; nil in reports before schema 1.1.
  public var worstRequests: [WorstRequest]?
  /// The recording's own rate over recorded time; nil in reports before schema 1.1.
  public var recordedIntervals: [RecordedInterval]?
  /// Width of the recorded intervals in nanoseconds of recorded time.
  public var recordedIntervalNanoseconds: Int64?
  /// Latencies as they were recorded, of the requests that were replayed; nil when none was recorded, or before schema 1.1.
  public var recordedLatency: LatencySummary?
  /// Which parts of the files were accessed when; nil when there was nothing to count, or before schema 1.1.
  public var offsetMap: OffsetGrid?

  /// What `--verify` found; nil without it.
  public var verification: Verification?

  enum CodingKeys: String, CodingKey {
    case schema, tool
    case createdUnixNanoseconds = "created_unix_ns"
    case trace, run, latency, operations
    case sizeClasses = "size_classes"
    case files, windows, intervals
    case intervalNanoseconds = "interval_ns"
    case errors, fidelity, targets
    case targetCount = "target_count"
    case notes, host, options
    case worstRequests = "worst_requests"
    case recordedIntervals = "recorded_intervals"
    case recordedIntervalNanoseconds = "recorded_interval_ns"
    case recordedLatency = "recorded_latency"
    case offsetMap = "offset_map"
    case verification
  }
}
