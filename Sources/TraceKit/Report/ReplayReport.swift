/// The report of one replay: a value with stable JSON keys. docs/replaying.md says what each figure means.
public struct ReplayReport: Codable, Sendable {
  public static let schemaName = "trace-replay-report"
  public static let schemaVersion = "1.0.0"

  public struct Schema: Codable, Hashable, Sendable {
    public var name: String
    public var version: String
  }
  /// The trace that was replayed.
  public struct Trace: Codable, Hashable, Sendable {
    public var path: String
    /// Digest of the whole trace; null for one that was not closed.
    public var digest: String?
    public var requests: UInt64
    public var bytesRead: UInt64
    public var bytesWritten: UInt64
    public var durationNanoseconds: Int64
    public var lossless: Bool?
    enum CodingKeys: String, CodingKey {
      case path, digest, requests
      case bytesRead = "bytes_read"
      case bytesWritten = "bytes_written"
      case durationNanoseconds = "duration_ns"
      case lossless
    }
    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(path, forKey: .path)
      try container.encode(digest, forKey: .digest)
      try container.encode(requests, forKey: .requests)
      try container.encode(bytesRead, forKey: .bytesRead)
      try container.encode(bytesWritten, forKey: .bytesWritten)
      try container.encode(durationNanoseconds, forKey: .durationNanoseconds)
      try container.encode(lossless, forKey: .lossless)
    }
  }
  /// What was run, and its totals.
  public struct Run: Codable, Hashable, Sendable {
    public var engine: String
    public var speed: String
    public var order: String
    public var late: String
    public var workers: Int
    /// Most requests in flight.
    public var iodepth: Int
    public var filter: String
    public var loops: Int
    public var elapsedNanoseconds: Int64
    public var cpuNanoseconds: Int64
    public var requests: UInt64
    /// Requests per second.
    public var iops: Double
    public var bytesRead: UInt64
    public var bytesWritten: UInt64
    public var errors: UInt64
    public var shortTransfers: UInt64
    /// Requests skipped by `--late drop`.
    public var dropped: UInt64
    /// How far `--late shift` moved the schedule.
    public var shiftNanoseconds: Int64
    public var partial: Bool
    enum CodingKeys: String, CodingKey {
      case engine, speed, order, late, workers, iodepth, filter, loops
      case elapsedNanoseconds = "elapsed_ns"
      case cpuNanoseconds = "cpu_ns"
      case requests, iops
      case bytesRead = "bytes_read"
      case bytesWritten = "bytes_written"
      case errors
      case shortTransfers = "short_transfers"
      case dropped
      case shiftNanoseconds = "shift_ns"
      case partial
    }
  }
  public struct Operation: Codable, Hashable, Sendable {
    public var operation: String
    public var requests: UInt64
    public var bytes: UInt64
    public var errors: UInt64
    public var shortTransfers: UInt64
    public var latency: LatencyTriple
    enum CodingKeys: String, CodingKey {
      case operation, requests, bytes, errors
      case shortTransfers = "short_transfers"
      case latency
    }
  }
  /// Requests up to a size; the class of 0 holds requests without bytes.
  public struct SizeClass: Codable, Hashable, Sendable {
    public var upToBytes: UInt64?
    public var requests: UInt64
    public var service: LatencySummary
    enum CodingKeys: String, CodingKey {
      case upToBytes = "up_to_bytes"
      case requests, service
    }
  }
  public struct File: Codable, Hashable, Sendable {
    /// Recorded path, safe to print.
    public var path: String
    public var requests: UInt64
    public var bytes: UInt64
    public var errors: UInt64
    public var service: LatencySummary
  }
  public struct Window: Codable, Hashable, Sendable {
    public var firstRequest: UInt64
    public var requests: UInt64
    public var latency: LatencyTriple
    enum CodingKeys: String, CodingKey {
      case firstRequest = "first_request"
      case requests, latency
    }
  }
  public struct Interval: Codable, Hashable, Sendable {
    public var startNanoseconds: Int64
    public var requests: UInt64
    public var bytes: UInt64
    public var errors: UInt64
    public var maximumLagNanoseconds: Int64
    enum CodingKeys: String, CodingKey {
      case startNanoseconds = "start_ns"
      case requests, bytes, errors
      case maximumLagNanoseconds = "max_lag_ns"
    }
  }
  public struct NotReplayed: Codable, Hashable, Sendable {
    public var reason: String
    public var requests: UInt64
  }
  public struct ErrorCount: Codable, Hashable, Sendable {
    public var operation: String
    public var errno: Int32
    public var message: String
    public var requests: UInt64
  }
  public struct Fidelity: Codable, Hashable, Sendable {
    public enum Verdict: String, Codable, Sendable {
      case faithful
      case degraded
      case notApplicable = "not applicable"
    }
    public var verdict: Verdict
    public var reasons: [String]
    public var lagBudgetNanoseconds: Int64
    /// Share of the requests later than the budget, 0…1; null at maximum speed.
    public var lateShare: Double?
    public var orderInversions: UInt64
    /// Mean difference between replayed and due time since the worker's previous request, as a share of the mean due gap; null
    /// at maximum speed.
    public var interarrivalError: Double?
    /// Requests that should have been issued.
    public var recordedRequests: UInt64
    public var issuedRequests: UInt64
    /// Mean number of requests in flight, when recorded (null without latencies) and in the replay.
    public var recordedInFlight: Double?
    public var replayedInFlight: Double
    public var notReplayed: [NotReplayed]
    enum CodingKeys: String, CodingKey {
      case verdict, reasons
      case lagBudgetNanoseconds = "lag_budget_ns"
      case lateShare = "late_share"
      case orderInversions = "order_inversions"
      case interarrivalError = "interarrival_error"
      case recordedRequests = "recorded_requests"
      case issuedRequests = "issued_requests"
      case recordedInFlight = "recorded_in_flight"
      case replayedInFlight = "replayed_in_flight"
      case notReplayed = "not_replayed"
    }
    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(verdict, forKey: .verdict)
      try container.encode(reasons, forKey: .reasons)
      try container.encode(lagBudgetNanoseconds, forKey: .lagBudgetNanoseconds)
      try container.encode(lateShare, forKey: .lateShare)
      try container.encode(orderInversions, forKey: .orderInversions)
      try container.encode(interarrivalError, forKey: .interarrivalError)
      try container.encode(recordedRequests, forKey: .recordedRequests)
      try container.encode(issuedRequests, forKey: .issuedRequests)
      try container.encode(recordedInFlight, forKey: .recordedInFlight)
      try container.encode(replayedInFlight, forKey: .replayedInFlight)
      try container.encode(notReplayed, forKey: .notReplayed)
    }
  }
  public struct Target: Codable, Hashable, Sendable {
    public var path: String
    /// `scratch`, `new`, `existing` or `block_device`.
    public var kind: String
    public var filesystem: String?
  }

  public var schema: Schema
  public var tool: String
  public var createdUnixNanoseconds: Int64
  public var trace: Trace
  public var run: Run
  public var latency: LatencyTriple
  public var operations: [Operation]
  public var sizeClasses: [SizeClass]
  public var files: [File]
  public var windows: [Window]
  public var intervals: [Interval]
  public var intervalNanoseconds: Int64
  public var errors: [ErrorCount]
  public var fidelity: Fidelity
  /// At most 100, the first of the file table; `targetCount` says how many there were.
  public var targets: [Target]
  public var targetCount: Int
  public var notes: [String]
  public var host: HostFacts
  public var options: [String: String]

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
  }
}
