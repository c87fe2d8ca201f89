/// The files that a report is to be written to, besides the text for people.
public struct ReportDocuments: Sendable {
  public var json: String?
  public var html: String?
  public var hlog: String?
  public var csv: String?
  public var markdown: String?
  public var prometheus: String?

  public init(
    json: String? = nil, html: String? = nil, hlog: String? = nil, csv: String? = nil, markdown: String? = nil, prometheus: String? = nil
  ) {
    self.json = json
    self.html = html
    self.hlog = hlog
    self.csv = csv
    self.markdown = markdown
    self.prometheus = prometheus
  }

  private var all: [(option: String, path: String)] {
    [("--json", json), ("--html", html), ("--hlog", hlog), ("--csv", csv), ("--markdown", markdown), ("--prometheus", prometheus)]
      .compactMap { option, path in path.map { (option, $0) } }
  }

  /// Paths of the files that will be written.
  public var files: [String] { all.map(\.path).filter { $0 != "-" } }

  /// A document goes to standard output, in place of the text.
  public var takesStandardOutput: Bool { all.contains { $0.path == "-" } }

  /// Throws what `write` would throw, before the work that is to be reported is begun: files that exist or can't be made, one file
  /// for two documents.
  /// - Parameter log: the file that the replay itself is logged to, which is written as well.
  public func check(overwrite: Bool, log: String? = nil) throws(TraceError) {
    let all = all + (log.map { [("--log", $0)] } ?? [])
    for (i, document) in all.enumerated() {
      if let other = all[..<i].first(where: { $0.path == document.path }) {
        let place = document.path == "-" ? "standard output" : PrintableText.escaped(document.path)
        throw TraceError(.refused, "\(other.option) and \(document.option): \(place) can hold one of them")
      }
      if document.option != "--log" { try ReportFile.check(document.path, overwrite: overwrite) }
    }
  }

  /// Writes a report to every file.
  public func write(_ report: ReplayReport, units: UnitChoice = UnitChoice(), overwrite: Bool) throws(TraceError) {
    func write(_ text: String, _ path: String) throws(TraceError) {
      try ReportFile.write(Array(text.utf8), to: path, overwrite: overwrite)
    }
    if let json { try ReportFile.write(ReportFile.json(report), to: json, overwrite: overwrite) }
    if let html { try write(report.html(units: units), html) }
    if let hlog { try write(report.hdrLog, hlog) }
    if let csv { try write(report.csv, csv) }
    if let markdown { try write(report.markdown(units: units), markdown) }
    if let prometheus { try write(report.prometheus, prometheus) }
  }

  /// Writes a comparison to every file; only JSON, HTML and Markdown can hold one.
  /// - Parameter reports: the first report of each side, for the figures over time.
  public func write(
    _ diff: ReportDiff, reports: (a: ReplayReport?, b: ReplayReport?), units: UnitChoice = UnitChoice(), overwrite: Bool
  ) throws(TraceError) {
    if let json { try ReportFile.write(ReportFile.json(diff), to: json, overwrite: overwrite) }
    if let html {
      try ReportFile.write(Array(diff.html(a: reports.a, b: reports.b, units: units).utf8), to: html, overwrite: overwrite)
    }
    if let markdown { try ReportFile.write(Array(diff.markdown(units: units).utf8), to: markdown, overwrite: overwrite) }
  }
}

extension ReplayReport {
  /// The report as one HTML file of less than 1 MB that loads and runs nothing.
  public func html(units: UnitChoice = UnitChoice()) -> String { RunPage(self, units: units).html }
  /// The latencies as an HdrHistogram log.
  public var hdrLog: String { HdrLog.text(self) }
  /// Every figure as a line of CSV.
  public var csv: String { CSVReport(self).text }
  /// A short report in GitHub's Markdown.
  public func markdown(units: UnitChoice = UnitChoice()) -> String { MarkdownReport(report: self, units: units).text }
  /// A textfile for Prometheus' node exporter.
  public var prometheus: String { PrometheusText(self).text }
}
