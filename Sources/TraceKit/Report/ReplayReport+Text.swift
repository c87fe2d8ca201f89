extension ReplayReport {
  /// The report for people.
  public var text: String { text(TerminalStyle()) }

  /// The report for people, as wide and in the characters and colours that `style` says.
  public func text(_ style: TerminalStyle) -> String { ReportText(report: printable, style: style).document }

  /// Name and key figures of a histogram, for tables.
  static func row(_ name: String, _ histogram: LatencyHistogram) -> [String] {
    func time(_ value: Int64?) -> String { value.map(DurationText.text) ?? "—" }
    let quantiles = LatencySummary.quantiles.map { time(histogram.quantile($0.q)) }
    return [name, String(histogram.count), time(histogram.minimum), time(histogram.mean.map { Int64($0.rounded()) })] + quantiles + [
      time(histogram.maximum)
    ]
  }
}

/// Writes a report as text for terminals.
private struct ReportText {
  /// With nothing but printable text in it.
  let report: ReplayReport
  let style: TerminalStyle
  private var run: ReplayReport.Run { report.run }
  private var series: ReportSeries { ReportSeries(report) }
  private var plots: TerminalPlots { TerminalPlots(style: style) }

  init(report: ReplayReport, style: TerminalStyle) {
    self.report = report
    self.style = style
  }

  var document: String {
    var text = headline()
    text += latencyTable()
    if style.showsPlots { text += percentileBars() }
    text += operationTable()
    if style.showsPlots { text += sparklines() + offsetMap() }
    text += worstTable()
    text += fidelityText()
    text += report.verificationText
    for error in report.errors { text += "errors      \(error.requests) × \(error.operation): \(error.message)\n" }
    for note in report.notes { text += "note        \(note)\n" }
    return style.fitted(text)
  }

  private func headline() -> String {
    let (trace, host) = (report.trace, report.host)
    let seconds = Double(run.elapsedNanoseconds) / 1e9
    let rate = seconds > 0 ? (Double(run.bytesRead) + Double(run.bytesWritten)) / seconds : 0
    var text = "trace       \(trace.path)  digest \(trace.digest ?? "not known")"
    if trace.lossless == false { text += "  (requests are missing from it)" }
    text +=
      "\nrun         engine \(run.engine), speed \(run.speed), order \(run.order), \(run.workers) worker\(run.workers == 1 ? "" : "s")"
    if run.loops > 1 { text += ", \(run.loops) loops" }
    if !run.filter.isEmpty { text += ", filter: \(run.filter)" }
    text += "\ntargets     \(report.targetCount)"
    if let first = report.targets.first { text += ", first \(first.path) (\(first.kind)\(first.filesystem.map { " on \($0)" } ?? ""))" }
    text += "\nhost        \(host.hostName), \(host.kernel), \(host.cpuCount) CPUs\(host.cpuModel.map { " (\($0))" } ?? "")"
    text += "\nrequests    \(run.requests) in \(DurationText.text(run.elapsedNanoseconds)), \(Decimal.text(run.iops, digits: 0))/s; "
    text += "\(ByteCount.text(run.bytesRead, style.units.sizes)) read, \(ByteCount.text(run.bytesWritten, style.units.sizes)) written, "
    text += ByteCount.rate(rate, style.units.rates)
    if let failure = run.failure {
      text += "\n            " + style.ink("\(run.partial ? "PARTIAL" : "DOUBTFUL"): \(failure)", .second)
    } else if run.partial {
      text += "\n            " + style.ink("PARTIAL: stopped by a signal", .second)
    }
    text += "\n            \(run.errors) errors"
    if let refused = run.submissionErrors, refused > 0 { text += " (\(refused) of them at submission)" }
    text += ", \(run.shortTransfers) short transfers"
    if run.dropped > 0 { text += ", \(run.dropped) dropped" }
    if run.requests > 0 {
      text += ", \(DurationText.text(run.cpuNanoseconds / Int64(clamping: max(1, run.requests)))) CPU per request"
    }
    return text + streamLines() + "\n\n"
  }

  /// What went over connections, with the digest that the other end shows as well.
  private func streamLines() -> String {
    var text = ""
    for direction in ["sent", "received"] {
      guard let comparison = report.options["net-comparison-\(direction)"] else { continue }
      text += "\nstream      \(direction) \(report.options["net-bytes-\(direction)"] ?? "0") bytes"
      if let datagrams = report.options["net-datagrams-\(direction)"] {
        text += " in \(datagrams) datagrams, \(report.options["net-datagrams-lost"] ?? "an unknown number") lost"
      }
      text += "; digest \(report.options["net-digest-\(direction)"] ?? "not computed"), \(comparison)"
    }
    return text
  }

  private func latencyTable() -> String {
    var table = TextTable()
    table.add(["latency", "count", "min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"])
    if series.isTimed { table.add(ReplayReport.row("lag", report.latency.lag.histogram)) }
    table.add(ReplayReport.row("service", report.latency.service.histogram))
    if series.isTimed { table.add(ReplayReport.row("response", report.latency.response.histogram)) }
    if let recorded = report.recordedLatency { table.add(ReplayReport.row("recorded", recorded.histogram)) }
    return table.render(indent: "", maximumWidth: style.columns, expendable: ["min", "mean", "count", "p90", "p99.99"])
  }

  /// The percentiles of the latency that counts as bars, on a logarithmic axis that begins at the minimum.
  private func percentileBars() -> String {
    let (name, summary) = series.mainLatency
    let histogram = summary.histogram
    guard histogram.count > 0, let maximum = histogram.maximum, maximum > 0 else { return "" }
    let rows = LatencySummary.quantiles.map { (name: ReportFigures.percentile($0.key), value: histogram.quantile($0.q) ?? 0) }
    let all = rows + [("max", maximum)]
    let lowest = max(1, histogram.minimum ?? 1)
    let axis = PlotScale(.logarithmic, values: [Double(lowest) * 0.8, Double(maximum)], from: 0, to: 1)
    let width = style.columns - 12 - 7 - 2 - 9
    var text = "\n"
    for (i, row) in all.enumerated() {
      let label = DurationText.text(row.value)
      text += pad(i == 0 ? name : i == 1 ? "(log. axis)" : "", 12) + pad(row.name, 7)
      text += String(repeating: " ", count: max(0, 9 - label.count)) + label + "  "
      text += style.ink(plots.bar(axis.position(Double(row.value)), width: max(8, width)), .first) + "\n"
    }
    return text
  }

  private func pad(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(0, width - text.count)) }

  private func operationTable() -> String {
    guard !report.operations.isEmpty else { return "" }
    var table = TextTable()
    table.add(["operation", "requests", "bytes", "errors", "p50", "p99", "max"])
    for operation in report.operations {
      let service = operation.latency.service.histogram
      table.add([
        operation.operation, String(operation.requests), ByteCount.text(operation.bytes, style.units.sizes), String(operation.errors),
        PageTables.time(service, 0.5), PageTables.time(service, 0.99), service.maximum.map(DurationText.text) ?? "—",
      ])
    }
    return "\n" + table.render(indent: "", maximumWidth: style.columns, expendable: ["errors", "bytes"]) + "\n"
  }

  /// Rates over the run's time.
  private func sparklines() -> String {
    let bytes = series.bytesPerSecond
    var lines: [(name: String, points: [LineChart.Point], text: (Double) -> String, ink: TerminalStyle.Ink)] = [
      ("requests/s", series.requestsPerSecond, AxisLabel.count, .soft),
      (bytes.isSum ? "bytes/s" : "read/s", bytes.read, { ByteCount.rate($0, style.units.rates) }, .first),
      ("written/s", bytes.written, { ByteCount.rate($0, style.units.rates) }, .second),
    ]
    if series.isTimed { lines.append(("largest lag", series.largestLag, { DurationText.text(Int64(min(9e18, max(0, $0)))) }, .second)) }
    var text = ""
    for line in lines {
      let values = TerminalPlots.resampled(line.points, to: max(8, style.columns - 34))
      // One interval is no line.
      guard values.count > 1, let largest = values.max(), largest > 0 else { continue }
      let picture = plots.sparkline(line.points, width: max(8, style.columns - 34))
      text += pad(line.name, 12) + style.ink(picture, line.ink) + "  at most \(line.text(largest))\n"
    }
    return text.isEmpty ? "" : text + "\n"
  }

  private func offsetMap() -> String {
    guard let map = OffsetPicture(report.offsetMap) else { return "" }
    let lines = plots.blockMap(map, lines: 10, width: style.columns - 14)
    guard lines.count > 1 || map.columns > 1 else { return "" }
    let extent = AxisLabel.bytes(map.extentBytes, style.units.sizes)
    var text = "offsets     up to \(extent), over \(DurationText.text(Int64(min(9e18, map.durationNanoseconds)))) of recorded time"
    text += style.isColored ? ": \(style.ink("reads", .first)), \(style.ink("writes", .second))\n" : "\n"
    let edge = style.isUnicode ? "│" : "|"
    for line in lines { text += String(repeating: " ", count: 11) + edge + line + "\n" }
    return text + "\n"
  }

  /// The requests that took longest.
  private func worstTable() -> String {
    guard let worst = report.worstRequests, !worst.isEmpty else { return "" }
    var table = TextTable()
    table.add(["slowest", "service", "lag", "at", "offset", "size", "request", "file"])
    for request in worst.prefix(5) {
      table.add([
        request.operation, DurationText.text(request.serviceNanoseconds), request.lagNanoseconds.map(DurationText.text) ?? "—",
        DurationText.text(request.atNanoseconds), request.offsetBytes.map(String.init) ?? "—",
        ByteCount.text(request.sizeBytes, style.units.sizes), String(request.request),
        HTMLWriter.clipped(request.file, max(12, style.columns - 46)),
      ])
    }
    return table.render(indent: "", maximumWidth: style.columns, expendable: ["request", "at", "lag"]) + "\n"
  }

  private func fidelityText() -> String {
    let fidelity = report.fidelity
    var text = "fidelity    "
    switch fidelity.verdict {
    case .faithful: text += style.ink(fidelity.verdict.rawValue, .first)
    case .degraded: text += style.ink(fidelity.verdict.rawValue, .second)
    case .notApplicable: text += fidelity.verdict.rawValue + " (no schedule is followed)"
    }
    if !fidelity.reasons.isEmpty { text += ": " + fidelity.reasons.joined(separator: "; ") }
    text += "\n            \(fidelity.issuedRequests) of \(fidelity.recordedRequests) requests issued"
    if let late = fidelity.lateShare {
      text += ", \(Decimal.text(late * 100, digits: 2)) % later than \(DurationText.text(fidelity.lagBudgetNanoseconds))"
      if let share = fidelity.lateByDependencyShare, share > 0 {
        text += "; \(Decimal.text(share * 100, digits: 2)) % because requests that they follow took longer than recorded"
      }
    }
    if let error = fidelity.interarrivalError { text += ", inter-arrival error \(Decimal.text(error * 100, digits: 2)) %" }
    text += ", \(fidelity.orderInversions) order inversions"
    if let overlapping = fidelity.overlappingRequests, overlapping > 0 { text += ", \(overlapping) overlapped one in flight" }
    text += "\n            in flight: "
    if let recorded = fidelity.recordedInFlight { text += "\(Decimal.text(recorded, digits: 2)) recorded, " }
    text += "\(Decimal.text(fidelity.replayedInFlight, digits: 2)) replayed\n"
    for item in fidelity.notReplayed { text += "            not replayed: \(item.requests) × \(item.reason)\n" }
    return text
  }
}
