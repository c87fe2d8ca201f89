/// The result of a comparison: what each candidate's runs measured, and each candidate against the first.
public struct Comparison: Codable, Sendable {
  public static let schemaName = "trace-replay-comparison"
  public static let schemaVersion = "1.0.0"

  /// One candidate.
  public struct Candidate: Codable, Sendable {
    /// Letter by which its files are named.
    public var letter: String
    public var name: String
    /// Saved reports, in the order of the rounds.
    public var reports: [String]
    public var figures: [Figure]
  }

  /// One figure over the runs of a candidate.
  public struct Figure: Codable, Sendable {
    /// `iops`, `bytes_per_second`, `cpu_ns_per_request`, or `service.p50_ns` and the like.
    public var name: String
    /// Geometric mean; the mean when a run has 0.
    @Nullable public var mean: Double?
    /// Standard deviation of the logarithms, about the relative spread from run to run.
    @Nullable public var spread: Double?
  }

  public var schema: ReplayReport.Schema
  /// Seed of the order of the runs.
  public var seed: UInt64
  public var rounds: Int
  /// Candidates' letters, round by round.
  public var order: [String]
  public var candidates: [Candidate]
  /// Fidelity verdicts of each candidate's runs and how many had them.
  public var fidelity: [[String: Int]]
  /// B, C … against A.
  public var diffs: [ReportDiff]

  /// - Throws: `.refused` when the runs are not comparable.
  public init(_ runner: ComparisonRunner, _ runs: ComparisonRunner.Runs, options: DiffOptions) throws(TraceError) {
    schema = .init(name: Self.schemaName, version: Self.schemaVersion)
    seed = runner.seed
    rounds = runner.rounds
    order = RunOrder.rounds(rounds, candidates: runner.candidates.count, seed: seed).map {
      $0.map(ComparisonRunner.letter).joined(separator: " ")
    }
    candidates = runner.candidates.enumerated().map { i, candidate in
      Candidate(
        letter: ComparisonRunner.letter(i), name: candidate.name, reports: runs.reportPaths[i].map { PrintableText.escaped($0) },
        figures: Self.figures(runs.reports[i]))
    }
    fidelity = runs.reports.map { reports in
      reports.reduce(into: [:]) { $0[$1.run.partial ? "partial" : $1.fidelity.verdict.rawValue, default: 0] += 1 }
    }
    diffs = []
    for i in runs.reports.indices.dropFirst() {
      diffs.append(try Self.diff(runner, runs, i, options))
    }
  }

  private static func diff(
    _ runner: ComparisonRunner, _ runs: ComparisonRunner.Runs, _ candidate: Int, _ options: DiffOptions
  ) throws(TraceError) -> ReportDiff {
    func runsOf(_ i: Int) -> [DiffRun] { zip(runs.reports[i], runs.reportPaths[i]).map { DiffRun($0, name: $1) } }
    var diff = try ReportDiff(
      runsOf(0), runsOf(candidate), nameA: runner.candidates[0].name, nameB: runner.candidates[candidate].name, options: options)
    if runner.keepsLogs { diff.paired = try PairedComparison.compare(runs.logPaths[0], runs.logPaths[candidate]) }
    return diff
  }

  private static func figures(_ reports: [ReplayReport]) -> [Figure] {
    let runs = reports.map { DiffRun($0, name: "") }
    var figures = ["iops", "bytes_per_second", "cpu_ns_per_request"].map { name in figure(name, runs.compactMap { $0.totals[name] }) }
    let isTimed = runs.allSatisfy(\.isTimed)
    for kind in isTimed ? [ReportDiff.LatencyKind.lag, .service, .response] : [.service] {
      for (key, q) in LatencySummary.quantiles {
        figures.append(figure("\(kind.rawValue).\(key)_ns", runs.compactMap { $0.latencies[kind].quantile(q).map(Double.init) }))
      }
    }
    return figures
  }

  private static func figure(_ name: String, _ values: [Double]) -> Figure {
    guard !values.isEmpty else { return Figure(name: name, mean: nil, spread: nil) }
    guard values.allSatisfy({ $0 > 0 }) else {
      return Figure(name: name, mean: values.reduce(0, +) / Double(values.count), spread: nil)
    }
    let logarithms = LogMoments(values)
    return Figure(name: name, mean: logarithms.geometricMean, spread: logarithms.standardDeviation)
  }
}
