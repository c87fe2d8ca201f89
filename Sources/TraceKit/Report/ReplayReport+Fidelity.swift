extension ReplayReport {
  /// How well the replay kept to the recording.
  public struct Fidelity: Codable, Hashable, Sendable {
    /// Whether the replay did what the recording asks for.
    public enum Verdict: String, Codable, Sendable {
      case faithful
      /// `reasons` says why.
      case degraded
      /// No schedule was followed.
      case notApplicable = "not applicable"
    }

    public var verdict: Verdict
    /// What was not as recorded, in words.
    public var reasons: [String]
    /// Requests submitted later than this after they were due count as late.
    public var lagBudgetNanoseconds: Int64
    /// Share of the requests later than the budget, 0…1; null at maximum speed.
    public var lateShare: Double?
    /// Share of the requests that are part of `lateShare` only because others that they had to follow took longer than recorded:
    /// with no delay of its own the replayer would have submitted them as late. Null at maximum speed and in reports of versions that
    /// did not tell them apart.
    public var lateByDependencyShare: Double?
    /// Requests that were submitted after one with a later number.
    public var orderInversions: UInt64
    /// Requests that were submitted while one on the same bytes was in flight, one of the two a write; null in reports of versions that
    /// did not count them.
    public var overlappingRequests: UInt64?
    /// Mean difference between replayed and due time since the worker's previous request, as a share of the mean due gap; null
    /// at maximum speed.
    public var interarrivalError: Double?
    /// Requests that should have been issued.
    public var recordedRequests: UInt64
    /// Requests that were issued.
    public var issuedRequests: UInt64
    /// Mean number of requests in flight, when recorded (null without latencies) and in the replay.
    public var recordedInFlight: Double?
    public var replayedInFlight: Double
    /// Events that no engine is asked to repeat, by reason.
    public var notReplayed: [NotReplayed]

    enum CodingKeys: String, CodingKey {
      case verdict, reasons
      case lagBudgetNanoseconds = "lag_budget_ns"
      case lateShare = "late_share"
      case lateByDependencyShare = "late_by_dependency_share"
      case orderInversions = "order_inversions"
      case overlappingRequests = "overlapping_requests"
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
      try container.encode(lateByDependencyShare, forKey: .lateByDependencyShare)
      try container.encode(orderInversions, forKey: .orderInversions)
      try container.encode(overlappingRequests, forKey: .overlappingRequests)
      try container.encode(interarrivalError, forKey: .interarrivalError)
      try container.encode(recordedRequests, forKey: .recordedRequests)
      try container.encode(issuedRequests, forKey: .issuedRequests)
      try container.encode(recordedInFlight, forKey: .recordedInFlight)
      try container.encode(replayedInFlight, forKey: .replayedInFlight)
      try container.encode(notReplayed, forKey: .notReplayed)
    }
  }

  /// Events of the trace that were not replayed.
  public struct NotReplayed: Codable, Hashable, Sendable {
    /// Name of the operation, or why it was left out.
    public var reason: String
    public var requests: UInt64
  }

  /// Requests that failed in the same way.
  public struct ErrorCount: Codable, Hashable, Sendable {
    /// Name of the operation.
    public var operation: String
    /// The system's error number, as in errno(3).
    public var errno: Int32
    /// The system's text for it.
    public var message: String
    public var requests: UInt64
  }
}
