/// A short report in Markdown, for the discussion of a change.
struct MarkdownReport {
  let report: ReplayReport
  let units: UnitChoice

  var text: String {
    let run = report.run
    var text = "### Replay of \(MarkdownText.code(report.trace.path.split(separator: "/").last.map(String.init) ?? report.trace.path))\n\n"
    text += verdict() + "\n\n"
    text += "Engine \(MarkdownText.code(run.engine)), speed \(MarkdownText.code(run.speed)), order \(MarkdownText.code(run.order)), "
    text += "\(run.workers) \(run.workers == 1 ? "worker" : "workers"), at most \(run.iodepth) in flight"
    if !run.filter.isEmpty { text += ", filter \(MarkdownText.code(run.filter))" }
    text += ": \(run.requests) requests in \(DurationText.text(run.elapsedNanoseconds)), **\(Decimal.text(run.iops, digits: 0))/s**, "
    text += "\(ByteCount.text(run.bytesRead, units.sizes)) read, \(ByteCount.text(run.bytesWritten, units.sizes)) written, "
    text += "\(run.errors) errors, \(run.shortTransfers) short transfers.\n\n"
    text += latencies()
    text += MarkdownText.details("By operation", operations())
    if let worst = report.worstRequests, !worst.isEmpty { text += MarkdownText.details("Slowest requests", slowest(worst)) }
    if !report.errors.isEmpty { text += MarkdownText.details("Errors", errors()) }
    return text + MarkdownText.details("Conditions", conditions())
  }

  private func verdict() -> String {
    let reasons = report.fidelity.reasons.prefix(10).map(MarkdownText.code).joined(separator: ", ")
    var text =
      switch report.fidelity.verdict {
      case .faithful: "✓ **faithful** to the recording"
      case .degraded: "▲ **degraded**: \(reasons)"
      case .notApplicable: "No schedule was followed" + (reasons.isEmpty ? "" : "; ▲ \(reasons)")
      }
    if report.run.partial { text += "; **partial**: stopped by a signal" }
    return text
  }

  private func latencies() -> String {
    var rows = [ReplayReport.row("service", report.latency.service.histogram)]
    if report.fidelity.verdict != .notApplicable {
      rows.append(ReplayReport.row("response", report.latency.response.histogram))
      rows.append(ReplayReport.row("lag", report.latency.lag.histogram))
    }
    if let recorded = report.recordedLatency { rows.append(ReplayReport.row("recorded", recorded.histogram)) }
    return MarkdownText.table(["latency", "count", "min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"], rows)
  }

  private func operations() -> String {
    MarkdownText.table(
      ["operation", "requests", "bytes", "errors", "p50", "p99", "max"],
      report.operations.prefix(50).map { operation in
        let service = operation.latency.service.histogram
        return [
          MarkdownText.code(operation.operation), String(operation.requests), ByteCount.text(operation.bytes, units.sizes),
          String(operation.errors), PageTables.time(service, 0.5), PageTables.time(service, 0.99),
          service.maximum.map(DurationText.text) ?? "—",
        ]
      })
  }

  private func slowest(_ worst: [ReplayReport.WorstRequest]) -> String {
    MarkdownText.table(
      ["operation", "file", "request", "offset", "size", "at", "lag", "service"],
      worst.prefix(10).map { request in
        [
          MarkdownText.code(request.operation), MarkdownText.code(request.file), String(request.request),
          request.offsetBytes.map(String.init) ?? "—", ByteCount.text(request.sizeBytes, units.sizes),
          DurationText.text(request.atNanoseconds), request.lagNanoseconds.map(DurationText.text) ?? "—",
          DurationText.text(request.serviceNanoseconds),
        ]
      }, texts: [0, 1])
  }

  private func errors() -> String {
    MarkdownText.table(
      ["operation", "error", "requests"],
      report.errors.prefix(50).map { [MarkdownText.code($0.operation), MarkdownText.code($0.message), String($0.requests)] }, texts: [0, 1])
  }

  private func conditions() -> String {
    var rows = [
      ["trace", MarkdownText.code(report.trace.path)], ["digest", MarkdownText.code(report.trace.digest ?? "not known")],
      ["host", MarkdownText.code(report.host.hostName)], ["kernel", MarkdownText.code(report.host.kernel)],
      ["CPUs", "\(report.host.cpuCount)" + (report.host.cpuModel.map { " × \(MarkdownText.code($0))" } ?? "")],
      ["targets", MarkdownText.code(PageTables.targets(report))],
    ]
    for (name, value) in report.options.sorted(by: { $0.key < $1.key }).prefix(40) {
      rows.append([MarkdownText.code(name), MarkdownText.code(value)])
    }
    rows.append(["tool", MarkdownText.code(report.tool)])
    return MarkdownText.table(["condition", ""], rows, texts: [0, 1])
  }
}
