/// The HTML report of one replay: one file that needs nothing else, below 1 MB however long the run was.
struct RunPage {
  let report: ReplayReport
  let units: UnitChoice
  private var figures: ReportFigures { ReportFigures(runs: [.init(name: nil, report: report)], units: units) }

  init(_ report: ReplayReport, units: UnitChoice) {
    self.report = report
    self.units = units
  }

  var html: String {
    let name = report.trace.path.split(separator: "/").last.map(String.init) ?? report.trace.path
    return HTMLWriter.page(title: "Replay of \(HTMLWriter.clipped(name, 80))") { page in
      page.element("h1", text: "Replay of \(HTMLWriter.clipped(name, 120))")
      page.element("p", ["class": "soft"], text: HTMLWriter.clipped(subtitle, 300))
      verdict(&page)
      page.tiles(tiles)
      conditions(&page)
      figures.percentiles(&page)
      operations(&page)
      figures.latencyOverTime(&page)
      figures.rates(&page)
      figures.inFlight(&page)
      figures.lag(&page)
      figures.sizes(&page)
      figures.offsets(&page)
      files(&page)
      PageTables.worst(report, units, heading: "Slowest requests", &page)
      host(&page)
      errors(&page)
      page.element(
        "footer",
        text:
          "\(HTMLWriter.clipped(report.tool, 80)), report schema \(HTMLWriter.clipped(report.schema.version, 40)). This page loads nothing and runs nothing."
      )
    }
  }

  private var subtitle: String {
    "Engine \(report.run.engine), speed \(report.run.speed), order \(report.run.order); \(TimeText.utc(report.createdUnixNanoseconds))"
  }

  private func verdict(_ page: inout HTMLWriter) {
    let fidelity = report.fidelity
    var reasons = fidelity.reasons
    if report.run.partial, !reasons.contains(where: { $0.contains("signal") }) { reasons.append("stopped by a signal") }
    switch fidelity.verdict {
    case .faithful: page.verdict("✓", "Faithful", Self.faithfulness(fidelity), reasons: reasons, .good)
    case .degraded: page.verdict("▲", "Degraded", "The replay was not what was recorded:", reasons: reasons, .bad)
    case .notApplicable:
      page.verdict(
        reasons.isEmpty ? "–" : "▲", "No schedule followed",
        "Requests were issued as fast as the order allows; lag and response mean nothing here.",
        reasons: reasons, reasons.isEmpty ? .neutral : .bad)
    }
  }

  private static func faithfulness(_ fidelity: ReplayReport.Fidelity) -> String {
    guard let share = fidelity.lateByDependencyShare, share > 0.01 else { return "The replay did what was recorded, when it was due." }
    return "The replay did what was recorded, when it could: \(Decimal.text(share * 100, digits: 1)) % of the requests were late because "
      + "others, which they follow, took longer than recorded."
  }

  private var tiles: [(name: String, value: String)] {
    let seconds = max(1e-9, Double(report.run.elapsedNanoseconds) / 1e9)
    let (name, summary) = ReportSeries(report).mainLatency
    func time(_ q: Double) -> String { summary.histogram.quantile(q).map(DurationText.text) ?? "—" }
    return [
      ("requests/s", AxisLabel.count(report.run.iops)),
      ("read", ByteCount.rate(Double(report.run.bytesRead) / seconds, units.rates)),
      ("written", ByteCount.rate(Double(report.run.bytesWritten) / seconds, units.rates)),
      ("\(name) p50", time(0.5)), ("\(name) p99", time(0.99)), ("\(name) p99.9", time(0.999)),
      ("errors", String(report.run.errors)),
    ]
  }

  private func conditions(_ page: inout HTMLWriter) {
    let (trace, run) = (report.trace, report.run)
    page.heading("Conditions")
    var rows: [(name: String, value: String)] = [
      ("trace", trace.path), ("digest", trace.digest ?? "not known: the trace was not closed"),
      (
        "recorded",
        "\(trace.requests) events in \(DurationText.text(trace.durationNanoseconds)), \(ByteCount.text(trace.bytesRead, units.sizes)) read, "
          + "\(ByteCount.text(trace.bytesWritten, units.sizes)) written"
          + (trace.lossless == false ? "; requests are missing from it" : "")
      ),
      (
        "replayed",
        "\(run.requests) requests in \(DurationText.text(run.elapsedNanoseconds)), \(ByteCount.text(run.bytesRead, units.sizes)) read, "
          + "\(ByteCount.text(run.bytesWritten, units.sizes)) written" + (run.partial ? "; PARTIAL: \(run.failure ?? "stopped by a signal")" : "")
      ),
      ("engine", "\(run.engine), \(run.workers) \(run.workers == 1 ? "worker" : "workers"), at most \(run.iodepth) in flight"),
      ("schedule", "speed \(run.speed), order \(run.order), late requests: \(run.late)" + (run.loops > 1 ? ", \(run.loops) loops" : "")),
    ]
    if !run.filter.isEmpty { rows.append(("filter", run.filter)) }
    for (key, value) in report.options.sorted(by: { $0.key < $1.key }).prefix(40) { rows.append((key, value)) }
    rows.append(("targets", PageTables.targets(report)))
    if run.requests > 0 {
      rows.append(("CPU time", "\(DurationText.text(run.cpuNanoseconds / Int64(clamping: max(1, run.requests)))) a request"))
    }
    page.conditions(rows)
  }

  private func operations(_ page: inout HTMLWriter) {
    guard !report.operations.isEmpty else { return }
    page.details(
      "Latency by operation",
      PageTable(
        header: ["operation", "requests", "bytes", "errors", "short", "p50", "p99", "p99.9", "max"],
        rows: report.operations.map { operation in
          let service = operation.latency.service.histogram
          return [
            operation.operation, String(operation.requests), ByteCount.text(operation.bytes, units.sizes), String(operation.errors),
            String(operation.shortTransfers), PageTables.time(service, 0.5), PageTables.time(service, 0.99),
            PageTables.time(service, 0.999),
            service.maximum.map(DurationText.text) ?? "—",
          ]
        }))
  }

  private func files(_ page: inout HTMLWriter) {
    guard report.files.count > 1 || report.files.first.map({ !$0.path.isEmpty }) == true else { return }
    page.heading("Files")
    let table = PageTable(
      header: ["file", "requests", "bytes", "errors", "p50", "p99", "max"],
      rows: report.files.map { file in
        [
          file.path, String(file.requests), ByteCount.text(file.bytes, units.sizes), String(file.errors),
          PageTables.time(file.service.histogram, 0.5), PageTables.time(file.service.histogram, 0.99),
          file.service.histogram.maximum.map(DurationText.text) ?? "—",
        ]
      })
    if table.rows.count <= 8 { page.table(table) } else { page.details("\(table.rows.count) rows", table) }
  }

  private func host(_ page: inout HTMLWriter) {
    page.heading("Host")
    page.conditions(PageTables.host(report.host, units))
  }

  private func errors(_ page: inout HTMLWriter) {
    page.heading("Errors and what was not replayed")
    if report.errors.isEmpty {
      page.element("p", text: "No request failed; \(report.run.shortTransfers) transfers were shorter than recorded.")
    } else {
      page.table(PageTables.errors(report))
    }
    if !report.fidelity.notReplayed.isEmpty {
      page.table(
        PageTable(
          header: ["not replayed", "events"], rows: report.fidelity.notReplayed.map { [$0.reason, String($0.requests)] }))
    }
    if let verification = report.verification {
      page.element(
        "p",
        text: "Verified: \(verification.blocksCorrupt) of \(verification.blocksChecked) written blocks of 512 B and "
          + "\(verification.readBlocksCorrupt) of \(verification.readBlocksChecked) blocks of reads are corrupt; "
          + "\(verification.blocksAmbiguous) and \(verification.readBlocksNotChecked) more could not be checked.")
      if !verification.findings.isEmpty {
        page.table(
          PageTable(
            header: ["corrupt block of", "offset", "found"],
            rows: verification.findings.prefix(20).map { [$0.target, String($0.offsetBytes), $0.message] }, texts: [0, 2]))
      }
    }
    for note in report.notes.prefix(50) { page.element("p", text: HTMLWriter.clipped("Note: \(note)", 600)) }
  }
}

/// Rows that several pages have.
enum PageTables {
  static func time(_ histogram: LatencyHistogram, _ q: Double) -> String { histogram.quantile(q).map(DurationText.text) ?? "—" }

  static func targets(_ report: ReplayReport) -> String {
    let kinds = Dictionary(grouping: report.targets) { "\($0.kind)\($0.filesystem.map { " on \($0)" } ?? "")" }
    let counts = kinds.map { "\($0.value.count) × \($0.key)" }.sorted().prefix(10).joined(separator: ", ")
    var text = report.targetCount > report.targets.count ? "\(report.targetCount), of the first \(report.targets.count): \(counts)" : counts
    if let first = report.targets.first { text += "; the first is \(first.path)" }
    return text
  }

  static func host(_ host: HostFacts, _ units: UnitChoice) -> [(name: String, value: String)] {
    var rows = [
      ("host", host.hostName), ("kernel", "\(host.kernel), \(host.architecture)"),
      ("CPUs", "\(host.cpuCount)" + (host.cpuModel.map { " × \($0)" } ?? "")),
    ]
    if let memory = host.memoryBytes { rows.append(("memory", ByteCount.text(memory, units.sizes))) }
    if let clock = host.clockSource { rows.append(("clock source", clock)) }
    for device in host.devices.prefix(16) {
      var parts: [String] = []
      if let size = device.sizeBytes { parts.append(ByteCount.text(size, units.sizes)) }
      if let rotational = device.rotational { parts.append(rotational ? "rotational" : "not rotational") }
      if let scheduler = device.scheduler { parts.append("scheduler \(scheduler)") }
      rows.append((device.name, parts.joined(separator: ", ")))
    }
    return rows
  }

  static func errors(_ report: ReplayReport) -> PageTable {
    PageTable(
      header: ["operation", "error", "requests"],
      rows: report.errors.map { [$0.operation, "\($0.message) (\($0.errno))", String($0.requests)] }, texts: [0, 1])
  }

  /// The requests that took longest.
  static func worst(_ report: ReplayReport, _ units: UnitChoice, heading: String, _ page: inout HTMLWriter) {
    guard let worst = report.worstRequests, !worst.isEmpty else { return }
    page.heading(heading)
    page.table(
      PageTable(
        header: ["request", "operation", "file", "offset", "size", "at", "lag", "service", "result"],
        rows: worst.prefix(20).map { request in
          [
            String(request.request), request.operation, request.file, request.offsetBytes.map(String.init) ?? "—",
            ByteCount.text(request.sizeBytes, units.sizes), DurationText.text(request.atNanoseconds),
            request.lagNanoseconds.map(DurationText.text) ?? "—", DurationText.text(request.serviceNanoseconds), String(request.result),
          ]
        }, texts: [1, 2]))
  }
}
