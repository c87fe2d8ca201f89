import Glibc

/// A limit such as `p99>5%`, `lag.p99>10%` or `iops<-3%`.
public struct DiffGate: Hashable, Sendable {
  /// What a limit can be about.
  public enum Metric: Hashable, Sendable {
    /// A quantile of a latency; nil for the latency that decides (response when timed, service otherwise).
    case latency(ReportDiff.LatencyKind?, quantile: String)
    /// A total, by its name in `ReportDiff.Total`.
    case total(String)
  }

  /// As it was given.
  public var expression: String
  public var metric: Metric
  /// It fails when the change lies above the limit; false: below.
  public var failsAbove: Bool
  /// As a share: 0.05 for 5 %.
  public var limit: Double

  /// Totals by the names that limits use.
  static let totals = ["iops": "iops", "bandwidth": "bytes_per_second", "cpu": "cpu_ns_per_request", "elapsed": "elapsed_ns"]

  /// What the help says of the metrics.
  public static let syntax =
    "[service.|response.|lag.]p50|p90|p99|p99.9|p99.99, iops, bandwidth, cpu or elapsed, then > or < and a change in percent"

  /// - Throws: a sentence that names the part that is wrong.
  public init(_ text: String) throws(TraceError) {
    expression = PrintableText.escaped(text)
    let shown = expression
    func wrong(_ what: String) -> TraceError { TraceError(.refused, "--fail-on '\(shown)': \(what); for example 'p99>5%' or 'iops<-3%'") }
    guard let sign = text.firstIndex(where: { $0 == ">" || $0 == "<" }) else { throw wrong("neither > nor < in it") }
    failsAbove = text[sign] == ">"
    var number = Self.trimmed(text[text.index(after: sign)...])
    guard number.hasSuffix("%") else { throw wrong("the limit is a change in percent") }
    number = Self.trimmed(number.dropLast())
    guard let percent = Double(number), percent.isFinite, percent > -100, percent <= 1_000_000 else {
      throw wrong("'\(PrintableText.escaped(String(number)))' is no change in percent above -100")
    }
    limit = percent / 100
    let name = Self.trimmed(text[..<sign])
    guard let found = Self.metric(name) else {
      throw wrong("'\(PrintableText.escaped(String(name)))' is none of \(Self.names.joined(separator: ", "))")
    }
    metric = found
  }

  private static let names =
    LatencySummary.quantiles.map { shown($0.key) } + ["service.p50 …", "response.p50 …", "lag.p50 …"] + totals.keys.sorted()

  private static func shown(_ key: String) -> String { String(key.map { $0 == "_" ? "." : $0 }) }

  private static func trimmed(_ text: Substring) -> Substring {
    var text = text
    while text.first == " " { text.removeFirst() }
    while text.last == " " { text.removeLast() }
    return text
  }

  private static func metric(_ name: Substring) -> Metric? {
    if let total = totals[String(name)] { return .total(total) }
    var kind: ReportDiff.LatencyKind?
    var quantile = name
    if let dot = name.firstIndex(of: "."), let named = ReportDiff.LatencyKind(rawValue: String(name[..<dot])) {
      kind = named
      quantile = name[name.index(after: dot)...]
    }
    guard let found = LatencySummary.quantiles.first(where: { shown($0.key) == quantile }) else { return nil }
    return .latency(kind, quantile: found.key)
  }

  /// ln(1 + limit): where the log ratio begins to fail.
  var logLimit: Double { log1p(limit) }
}
