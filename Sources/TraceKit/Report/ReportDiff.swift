import Glibc

/// The comparison of two reports of the same trace.
public struct ReportDiff: Codable, Sendable {
  public static let schemaName = "trace-replay-diff"
  public static let schemaVersion = "1.0.0"

  /// What an interval says about a difference.
  public enum Verdict: String, Codable, Sendable {
    /// B is slower by more than the margin.
    case regression
    /// B is faster by more than the margin.
    case improvement
    /// The difference lies within the margin.
    case equivalent
    case inconclusive
    /// Too few requests for a statement about this quantile.
    case insufficient
  }
  /// One latency quantile of both runs. Changes are B ÷ A − 1.
  public struct Quantile: Codable, Sendable {
    public var quantile: String
    public var aNanoseconds: Int64?
    public var bNanoseconds: Int64?
    public var ratio: Double?
    /// 95 % interval of the change within this pair of runs, and the windows that it rests on; null when insufficient.
    public var changeLow: Double?
    public var changeHigh: Double?
    public var windows: Int?
    public var verdict: Verdict
    enum CodingKeys: String, CodingKey {
      case quantile
      case aNanoseconds = "a_ns"
      case bNanoseconds = "b_ns"
      case ratio
      case changeLow = "change_low"
      case changeHigh = "change_high"
      case windows, verdict
    }
    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(quantile, forKey: .quantile)
      try container.encode(aNanoseconds, forKey: .aNanoseconds)
      try container.encode(bNanoseconds, forKey: .bNanoseconds)
      try container.encode(ratio, forKey: .ratio)
      try container.encode(changeLow, forKey: .changeLow)
      try container.encode(changeHigh, forKey: .changeHigh)
      try container.encode(windows, forKey: .windows)
      try container.encode(verdict, forKey: .verdict)
    }
  }
  /// One figure of both runs.
  public struct Total: Codable, Sendable {
    public var name: String
    public var a: Double
    public var b: Double
    /// B ÷ A; null when A is 0.
    public var ratio: Double?
    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(name, forKey: .name)
      try container.encode(a, forKey: .a)
      try container.encode(b, forKey: .b)
      try container.encode(ratio, forKey: .ratio)
    }
    enum CodingKeys: String, CodingKey { case name, a, b, ratio }
  }
  /// A condition in which the runs differ.
  public struct Difference: Codable, Hashable, Sendable {
    public var name: String
    public var a: String
    public var b: String
  }

  public var schema: ReplayReport.Schema
  /// Which latency the quantiles are of: `service` at maximum speed, `response` when timed.
  public var latency: String
  public var marginPercent: Double
  public var digest: String?
  public var differences: [Difference]
  public var totals: [Total]
  public var quantiles: [Quantile]
  /// Reasons why the verdicts count for nothing: an unfaithful or partial replay.
  public var vetoes: [String]

  enum CodingKeys: String, CodingKey {
    case schema, latency
    case marginPercent = "margin_percent"
    case digest, differences, totals, quantiles, vetoes
  }

  /// Conditions that make a comparison meaningless, by the name that overrides each of them.
  public static let refusals = ["trace", "filter", "speed", "order", "loops"]

  /// Compares two reports.
  /// - Parameters:
  ///   - allow: names out of `refusals` in which the runs may differ.
  ///   - marginPercent: a change within it counts as equivalent.
  /// - Throws: `.refused` when the reports are not comparable.
  public init(_ a: ReplayReport, _ b: ReplayReport, allow: Set<String> = [], marginPercent: Double = 2) throws(TraceError) {
    schema = .init(name: Self.schemaName, version: Self.schemaVersion)
    let basic = Self.conditions(a, b)
    if let refused = basic.first(where: { Self.refusals.contains($0.name) && !allow.contains($0.name) }) {
      throw TraceError(
        .refused,
        "not comparable: the runs differ in \(refused.name) (\(refused.a) against \(refused.b)); --allow-different \(refused.name) compares them all the same"
      )
    }
    digest = a.trace.digest
    differences = basic
    self.marginPercent = marginPercent
    let isTimed = a.fidelity.verdict != .notApplicable && b.fidelity.verdict != .notApplicable
    latency = isTimed ? "response" : "service"
    totals = Self.totals(a, b)
    quantiles = []
    vetoes = Self.vetoes(a, "A") + Self.vetoes(b, "B")
    let pick = isTimed ? \LatencyTriple.response : \LatencyTriple.service
    let sameWindows = a.windows.map(\.firstRequest) == b.windows.map(\.firstRequest)
    let pairs =
      sameWindows
      ? zip(a.windows, b.windows).map {
        WindowStatistics.Pair(a: $0.latency[keyPath: pick].histogram, b: $1.latency[keyPath: pick].histogram)
      } : []
    for (key, q) in LatencySummary.quantiles {
      quantiles.append(
        Self.quantile(key, q, a.latency[keyPath: pick].histogram, b.latency[keyPath: pick].histogram, pairs, margin: marginPercent / 100))
    }
  }

  private static func conditions(_ a: ReplayReport, _ b: ReplayReport) -> [Difference] {
    var found: [Difference] = []
    func compare(_ name: String, _ a: String?, _ b: String?) {
      let (a, b) = (a ?? "not known", b ?? "not known")
      if a != b { found.append(Difference(name: name, a: a, b: b)) }
    }
    compare("trace", a.trace.digest ?? "not known", b.trace.digest ?? "not known")
    if a.trace.digest == nil, b.trace.digest == nil { found.append(Difference(name: "trace", a: "no digest", b: "no digest")) }
    compare("filter", a.run.filter.isEmpty ? "none" : a.run.filter, b.run.filter.isEmpty ? "none" : b.run.filter)
    compare("speed", a.run.speed, b.run.speed)
    compare("order", a.run.order, b.run.order)
    compare("loops", String(a.run.loops), String(b.run.loops))
    compare("engine", a.run.engine, b.run.engine)
    compare("workers", String(a.run.workers), String(b.run.workers))
    compare("late", a.run.late, b.run.late)
    compare("host", a.host.hostName, b.host.hostName)
    compare("kernel", a.host.kernel, b.host.kernel)
    compare("CPU", a.host.cpuModel, b.host.cpuModel)
    compare("CPUs", String(a.host.cpuCount), String(b.host.cpuCount))
    func kinds(_ report: ReplayReport) -> String {
      Set(report.targets.map { "\($0.kind) on \($0.filesystem ?? "?")" }).sorted().joined(separator: ", ")
    }
    compare("targets", kinds(a), kinds(b))
    func schedulers(_ report: ReplayReport) -> String {
      report.host.devices.map { "\($0.name) \($0.scheduler ?? "?")" }.joined(separator: ", ")
    }
    compare("schedulers", schedulers(a), schedulers(b))
    compare("tool", a.tool, b.tool)
    for key in Set(a.options.keys).union(b.options.keys).sorted() where key != "pacing-margin" {
      compare("--\(key)", a.options[key], b.options[key])
    }
    return found
  }

  private static func totals(_ a: ReplayReport, _ b: ReplayReport) -> [Total] {
    func total(_ name: String, _ value: (ReplayReport) -> Double) -> Total {
      let (a, b) = (value(a), value(b))
      return Total(name: name, a: a, b: b, ratio: a == 0 ? nil : b / a)
    }
    return [
      total("requests") { Double($0.run.requests) }, total("requests/s") { $0.run.iops },
      total("elapsed_ns") { Double($0.run.elapsedNanoseconds) }, total("bytes_read") { Double($0.run.bytesRead) },
      total("bytes_written") { Double($0.run.bytesWritten) },
      total("cpu_ns_per_request") { Double($0.run.cpuNanoseconds) / Double(max(1, $0.run.requests)) },
      total("errors") { Double($0.run.errors) }, total("short_transfers") { Double($0.run.shortTransfers) },
    ]
  }

  private static func vetoes(_ report: ReplayReport, _ name: String) -> [String] {
    var reasons: [String] = []
    if report.run.partial { reasons.append("\(name) is partial") }
    if report.fidelity.verdict == .degraded { reasons.append("\(name) is degraded: " + report.fidelity.reasons.joined(separator: "; ")) }
    return reasons
  }

  private static func quantile(
    _ key: String, _ q: Double, _ a: LatencyHistogram, _ b: LatencyHistogram, _ pairs: [WindowStatistics.Pair], margin: Double
  ) -> Quantile {
    let (valueA, valueB) = (a.quantile(q), b.quantile(q))
    var row = Quantile(quantile: key, aNanoseconds: valueA, bNanoseconds: valueB, verdict: .insufficient)
    if let valueA, let valueB, valueA > 0 { row.ratio = Double(valueB) / Double(valueA) }
    // A tail that the run hardly has samples of: 1 − q^n < 0.975.
    let samples = Double(min(a.count, b.count))
    guard 1 - pow(q, samples) >= 0.975, let interval = WindowStatistics.interval(pairs, quantile: q) else { return row }
    let low = exp(interval.mean - interval.halfWidth) - 1
    let high = exp(interval.mean + interval.halfWidth) - 1
    row.changeLow = low
    row.changeHigh = high
    row.windows = interval.windows
    row.verdict =
      low > margin ? .regression : high < -margin ? .improvement : low >= -margin && high <= margin ? .equivalent : .inconclusive
    return row
  }
}
