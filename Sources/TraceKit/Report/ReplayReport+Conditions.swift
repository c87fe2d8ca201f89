/// Under which conditions a replay ran.
extension ReplayReport {
  /// Which schema a document follows.
  public struct Schema: Codable, Hashable, Sendable {
    /// `trace-replay-report` or `trace-replay-diff`.
    public var name: String
    /// Semantic version.
    public var version: String
  }

  /// The trace that was replayed.
  public struct Trace: Codable, Hashable, Sendable {
    /// Path as it was given, safe to print.
    public var path: String
    /// Digest of the whole trace; null for one that was not closed.
    public var digest: String?
    /// Events in the trace, those that are not replayed included.
    public var requests: UInt64
    /// Bytes that the recorded reads moved.
    public var bytesRead: UInt64
    /// Bytes that the recorded writes moved.
    public var bytesWritten: UInt64
    /// Recorded time from the first event to the last, in nanoseconds.
    public var durationNanoseconds: Int64
    /// Nothing is missing from it; null when that is not known.
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
    /// Name of the engine.
    public var engine: String
    /// `original`, `2x`, `10000/s` or `max`.
    public var speed: String
    /// `streams`, `schedule` or `depth`.
    public var order: String
    /// What happened to late requests: `burst`, `shift` or `drop`.
    public var late: String
    /// Threads that issued requests.
    public var workers: Int
    /// Most requests in flight.
    public var iodepth: Int
    /// What was left out, as text that is equal for equal filters; empty without one.
    public var filter: String
    /// How often the trace was replayed, one after the other.
    public var loops: Int
    /// From the start of the clock to the last completion.
    public var elapsedNanoseconds: Int64
    /// CPU time of the whole process meanwhile.
    public var cpuNanoseconds: Int64
    /// Completed requests.
    public var requests: UInt64
    /// Requests per second.
    public var iops: Double
    /// Bytes that reads moved.
    public var bytesRead: UInt64
    /// Bytes that writes moved.
    public var bytesWritten: UInt64
    /// Requests that failed.
    public var errors: UInt64
    /// Those of them that the kernel refused to take; nil in reports of versions that did not count them apart.
    public var submissionErrors: UInt64?
    /// Transfers that moved fewer bytes than the recorded ones.
    public var shortTransfers: UInt64
    /// Requests skipped by `--late drop`.
    public var dropped: UInt64
    /// How far `--late shift` moved the schedule.
    public var shiftNanoseconds: Int64
    /// A signal ended the run before the trace's end, or `failure` did.
    public var partial: Bool
    /// Why the run ended early (a peer that is gone), or why it can't be trusted (digests that differ); nil when all went well.
    public var failure: String?

    enum CodingKeys: String, CodingKey {
      case engine, speed, order, late, workers, iodepth, filter, loops
      case elapsedNanoseconds = "elapsed_ns"
      case cpuNanoseconds = "cpu_ns"
      case requests, iops
      case bytesRead = "bytes_read"
      case bytesWritten = "bytes_written"
      case errors
      case submissionErrors = "submission_errors"
      case shortTransfers = "short_transfers"
      case dropped
      case shiftNanoseconds = "shift_ns"
      case partial, failure
    }
  }

  /// A file or device that was replayed on.
  public struct Target: Codable, Hashable, Sendable {
    /// Its path, safe to print.
    public var path: String
    /// `scratch`, `new`, `existing` or `block_device`.
    public var kind: String
    /// Name of the filesystem that it lies on.
    public var filesystem: String?
  }
}
