extension ReportDiff {
  /// Request against request, from the logs of both sides: d = ln(B ÷ A) of one request's service latency (its geometric mean
  /// when a side has several logs).
  public struct Paired: Codable, Hashable, Sendable {
    public var all: Group
    public var byOperation: [Group]
    /// The files with most requests first; the rest together.
    public var byFile: [Group]
    /// By the size asked for; the sizes of a report's size classes.
    public var bySize: [Group]
    /// Tenths of the trace's requests, in order.
    public var byPhase: [Group]
    /// Most nanoseconds lost first, at most 20.
    public var worst: [Request]
    /// Requests that only one side has, or that have no latency.
    public var onlyA: UInt64
    public var onlyB: UInt64
    enum CodingKeys: String, CodingKey {
      case all
      case byOperation = "by_operation"
      case byFile = "by_file"
      case bySize = "by_size"
      case byPhase = "by_phase"
      case worst
      case onlyA = "only_a"
      case onlyB = "only_b"
    }
  }

  /// A group of paired requests.
  public struct Group: Codable, Hashable, Sendable {
    /// Operation, file, size or phase; safe to print.
    public var name: String
    public var requests: UInt64
    /// exp(median of d) − 1, to 0.1 %.
    public var medianChange: Double
    /// Share of the requests that were slower in B, 0…1; equal ones count half.
    public var shareSlower: Double
    /// exp of d's 10th and 90th percentile, − 1.
    public var change10: Double
    public var change90: Double
    /// Sum of B − A over the requests.
    public var lostNanoseconds: Double
    enum CodingKeys: String, CodingKey {
      case name, requests
      case medianChange = "median_change"
      case shareSlower = "share_slower"
      case change10 = "p10_change"
      case change90 = "p90_change"
      case lostNanoseconds = "lost_ns"
    }
  }

  /// One request of both sides.
  public struct Request: Codable, Hashable, Sendable {
    /// Number in the trace that was replayed.
    public var request: UInt64
    public var operation: String
    /// Recorded path, safe to print.
    public var file: String
    @Nullable public var offsetBytes: UInt64?
    @Nullable public var sizeBytes: UInt64?
    /// When it was submitted in A's (first) log, after the log's first request.
    public var atNanoseconds: Int64
    public var aNanoseconds: Int64
    public var bNanoseconds: Int64
    enum CodingKeys: String, CodingKey {
      case request, operation, file
      case offsetBytes = "offset_bytes"
      case sizeBytes = "size_bytes"
      case atNanoseconds = "at_ns"
      case aNanoseconds = "a_ns"
      case bNanoseconds = "b_ns"
    }
  }
}
