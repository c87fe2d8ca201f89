import Glibc

/// What comparisons can find on this machine: runs of one candidate, compared with each other. Every difference that is claimed
/// is a false alarm.
public struct SelfTest: Codable, Sendable {
  public static let schemaName = "trace-replay-selftest"
  public static let schemaVersion = "1.0.0"
  /// Pairs of runs for which the smallest difference is given.
  public static let pairCounts = [5, 10, 20, 40]

  /// One quantile of the latency that decides.
  public struct Quantile: Codable, Sendable {
    public var quantile: String
    /// Geometric mean over the runs.
    @Nullable public var nanoseconds: Int64?
    /// Standard deviation of the log quantile from run to run.
    @Nullable public var spread: Double?
    /// Share of the ways to pair the runs in which the interval over pairs of runs excludes 0.
    @Nullable public var falseAlarmsOverRuns: Double?
    /// Share of all pairs of runs in which the interval over the windows of the one pair excludes 0.
    @Nullable public var falseAlarmsOfOnePair: Double?
    public var detectable: [Detectable]
    enum CodingKeys: String, CodingKey {
      case quantile
      case nanoseconds = "mean_ns"
      case spread
      case falseAlarmsOverRuns = "false_alarms_over_runs"
      case falseAlarmsOfOnePair = "false_alarms_of_one_pair"
      case detectable
    }
  }

  /// The smallest change that so many pairs of runs find in 80 % of cases.
  public struct Detectable: Codable, Sendable {
    public var pairs: Int
    /// As a share: 0.05 for 5 % more.
    public var change: Double
  }

  public var schema: ReplayReport.Schema
  @Nullable public var digest: String?
  public var engine: String
  public var speed: String
  public var runs: Int
  public var latency: ReportDiff.LatencyKind
  public var requests: UInt64
  /// Ways to pair the runs that were looked at, and whether there are no others.
  public var pairings: Int
  public var pairingsAreComplete: Bool
  public var quantiles: [Quantile]
  /// The median rose or fell from the first run to the last: the machine was not steady.
  @Nullable public var driftOverRuns: Double?
  public var vetoes: [String]

  enum CodingKeys: String, CodingKey {
    case schema, digest, engine, speed, runs, latency, requests, pairings
    case pairingsAreComplete = "pairings_are_complete"
    case quantiles
    case driftOverRuns = "drift_over_runs"
    case vetoes
  }

  /// - Parameter reports: of runs under the same conditions, in their order; at least four, of an odd number the last is left out
  ///   of the pairings.
  public init(_ reports: [ReplayReport]) {
    let runs = reports.map { DiffRun($0, name: "") }
    let assembly = DiffAssembly(a: runs, b: runs, options: DiffOptions())
    let kind = assembly.primary
    let (ways, isComplete) = RunPairings.all(runs.count / 2 * 2)
    let pairs = Self.windowPairs(runs, kind)
    schema = .init(name: Self.schemaName, version: Self.schemaVersion)
    digest = runs[0].digest
    engine = reports[0].run.engine
    speed = reports[0].run.speed
    self.runs = runs.count
    latency = kind
    requests = runs.map { $0.latencies[kind].count }.min() ?? 0
    pairings = ways.count
    pairingsAreComplete = isComplete
    quantiles = LatencySummary.quantiles.map { key, q in Self.quantile(key, q, runs, kind, ways, pairs) }
    let medians = runs.compactMap { $0.latencies[kind].quantile(0.5).map { log(Double(max(1, $0))) } }
    driftOverRuns = TrendTest.trend(medians).flatMap { $0.pValue < 0.05 ? expm1($0.change) : nil }
    vetoes = runs.enumerated().flatMap { i, run in run.vetoes.map { "run \(i + 1) \($0)" } }
  }

  private static func quantile(
    _ key: String, _ q: Double, _ runs: [DiffRun], _ kind: ReportDiff.LatencyKind, _ ways: [[(a: Int, b: Int)]],
    _ pairs: [[WindowStatistics.Pair]]
  ) -> Quantile {
    var row = Quantile(
      quantile: key, nanoseconds: nil, spread: nil, falseAlarmsOverRuns: nil, falseAlarmsOfOnePair: nil, detectable: [])
    let values = runs.compactMap { $0.latencies[kind].quantile(q) }
    let needed = Int((log(0.025) / log(q)).rounded(.up))
    guard values.count == runs.count, values.allSatisfy({ $0 > 0 }), (runs.map { $0.latencies[kind].count }.min() ?? 0) >= needed else {
      return row
    }
    let moments = LogMoments(values.map(Double.init))
    row.nanoseconds = Int64(bounded: moments.geometricMean)
    row.spread = moments.standardDeviation
    let logarithms = values.map { log(Double($0)) }
    let alarms = ways.count { way in isAlarm(RatioEstimate(way.map { logarithms[$0.b] - logarithms[$0.a] })) }
    row.falseAlarmsOverRuns = Double(alarms) / Double(ways.count)
    let estimates = pairs.compactMap { WindowStatistics.estimate($0, quantile: q) }
    if !estimates.isEmpty { row.falseAlarmsOfOnePair = Double(estimates.count { isAlarm($0) }) / Double(estimates.count) }
    if let spread = moments.standardDeviation {
      // The difference of two runs spreads √2 times as far as one run.
      row.detectable = pairCounts.compactMap { pairs in
        DetectableDifference.smallest(deviation: spread * sqrt(2), pairs: pairs).map { Detectable(pairs: pairs, change: expm1($0)) }
      }
    }
    return row
  }

  private static func isAlarm(_ estimate: RatioEstimate?) -> Bool { estimate.map { abs($0.mean) > $0.halfWidth } ?? false }

  /// Every run with every later one, at most 200 pairs.
  private static func windowPairs(_ runs: [DiffRun], _ kind: ReportDiff.LatencyKind) -> [[WindowStatistics.Pair]] {
    var found: [[WindowStatistics.Pair]] = []
    for i in runs.indices {
      for j in i + 1..<max(i + 1, runs.count) where found.count < 200 {
        found.append(DiffAssembly(a: [runs[i]], b: [runs[j]], options: DiffOptions()).windowPairs(kind))
      }
    }
    return found
  }
}
