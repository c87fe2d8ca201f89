/// One run as the diff takes it: of a report, of a replay's log, or of a recording.
public struct DiffRun: Sendable {
  /// A window of consecutive requests.
  struct Window: Sendable {
    var firstRequest: UInt64
    var latencies: LatencySet
  }
  /// One operation's requests.
  struct Operation: Sendable {
    var operation: String
    var requests: UInt64
    var errors: UInt64
    var service: LatencyHistogram
  }

  /// The file's name, or what else stands for the run; safe to print.
  public var name: String
  var source: ReportDiff.Side.Source
  var engine: String?
  var createdUnixNanoseconds: Int64?
  var digest: String?
  /// Requests were due at times, so that lag and response exist.
  var isTimed: Bool
  /// Conditions by name, in the order in which they are shown.
  var conditions: [(name: String, value: String)]
  /// A condition that is not listed did not apply; otherwise it is not known.
  var conditionsAreComplete: Bool
  var latencies: LatencySet
  var windows: [Window]
  var operations: [Operation]
  /// Figures by the names of `ReportDiff.Total`.
  var totals: [String: Double]
  /// Reasons why no verdict about this run counts, without its name.
  var vetoes: [String]
  var notes: [String] = []
  /// Requests completed by the end of each interval, for finding the requests of the first seconds.
  var progress: [(endNanoseconds: Int64, requests: UInt64)] = []
}

extension LatencySet {
  subscript(_ kind: ReportDiff.LatencyKind) -> LatencyHistogram {
    switch kind {
    case .service: service
    case .response: response
    case .lag: lag
    }
  }
}
