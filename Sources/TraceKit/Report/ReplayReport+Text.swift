extension ReplayReport {
  /// The report for people.
  public var text: String {
    var text = headline()
    text += latencyTable()
    text += operationTable()
    text += fidelityText()
    for error in errors { text += "errors      \(error.requests) × \(error.operation): \(error.message)\n" }
    for note in notes { text += "note        \(note)\n" }
    return text
  }

  private func headline() -> String {
    let seconds = Double(run.elapsedNanoseconds) / 1e9
    let rate = seconds > 0 ? UInt64(Double(run.bytesRead + run.bytesWritten) / seconds) : 0
    var text = "trace       \(trace.path)  digest \(trace.digest ?? "not known")"
    if trace.lossless == false { text += "  (requests are missing from it)" }
    text +=
      "\nrun         engine \(run.engine), speed \(run.speed), order \(run.order), \(run.workers) worker\(run.workers == 1 ? "" : "s")"
    if run.loops > 1 { text += ", \(run.loops) loops" }
    if !run.filter.isEmpty { text += ", filter: \(run.filter)" }
    text += "\ntargets     \(targetCount)"
    if let first = targets.first { text += ", first \(first.path) (\(first.kind)\(first.filesystem.map { " on \($0)" } ?? ""))" }
    text +=
      "\nhost        \(PrintableText.escaped(host.hostName)), \(host.kernel), \(host.cpuCount) CPUs\(host.cpuModel.map { " (\($0))" } ?? "")"
    text += "\nrequests    \(run.requests) in \(DurationText.text(run.elapsedNanoseconds)), \(Decimal.text(run.iops, digits: 0))/s; "
    text += "\(ByteCount.text(run.bytesRead)) read, \(ByteCount.text(run.bytesWritten)) written, \(ByteCount.text(rate))/s"
    if let failure = run.failure {
      text += "\n            \(run.partial ? "PARTIAL" : "DOUBTFUL"): \(failure)"
    } else if run.partial {
      text += "\n            PARTIAL: stopped by a signal"
    }
    text += "\n            \(run.errors) errors, \(run.shortTransfers) short transfers"
    if run.dropped > 0 { text += ", \(run.dropped) dropped" }
    if run.requests > 0 { text += ", \(DurationText.text(run.cpuNanoseconds / Int64(run.requests))) CPU per request" }
    return text + "\n\n"
  }

  private func latencyTable() -> String {
    var table = TextTable()
    table.add(["latency", "count", "min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"])
    let isTimed = fidelity.verdict != .notApplicable
    if isTimed { table.add(Self.row("lag", latency.lag.histogram)) }
    table.add(Self.row("service", latency.service.histogram))
    if isTimed { table.add(Self.row("response", latency.response.histogram)) }
    return table.render(indent: "")
  }

  static func row(_ name: String, _ histogram: LatencyHistogram) -> [String] {
    func time(_ value: Int64?) -> String { value.map(DurationText.text) ?? "—" }
    let quantiles = LatencySummary.quantiles.map { time(histogram.quantile($0.q)) }
    return [name, String(histogram.count), time(histogram.minimum), time(histogram.mean.map { Int64($0.rounded()) })] + quantiles + [
      time(histogram.maximum)
    ]
  }

  private func operationTable() -> String {
    var table = TextTable()
    table.add(["\noperation", "requests", "bytes", "errors", "p50", "p99", "max"])
    for operation in operations {
      let service = operation.latency.service.histogram
      func time(_ value: Int64?) -> String { value.map(DurationText.text) ?? "—" }
      table.add([
        operation.operation, String(operation.requests), ByteCount.text(operation.bytes), String(operation.errors),
        time(service.quantile(0.5)),
        time(service.quantile(0.99)), time(service.maximum),
      ])
    }
    return operations.isEmpty ? "" : table.render(indent: "") + "\n"
  }

  private func fidelityText() -> String {
    var text = "fidelity    \(fidelity.verdict.rawValue)"
    if fidelity.verdict == .notApplicable { text += " (no schedule is followed)" }
    if !fidelity.reasons.isEmpty { text += ": " + fidelity.reasons.joined(separator: "; ") }
    text += "\n            \(fidelity.issuedRequests) of \(fidelity.recordedRequests) requests issued"
    if let late = fidelity.lateShare {
      text += ", \(Decimal.text(late * 100, digits: 2)) % later than \(DurationText.text(fidelity.lagBudgetNanoseconds))"
    }
    if let error = fidelity.interarrivalError { text += ", inter-arrival error \(Decimal.text(error * 100, digits: 2)) %" }
    text += ", \(fidelity.orderInversions) order inversions"
    text += "\n            in flight: "
    if let recorded = fidelity.recordedInFlight { text += "\(Decimal.text(recorded, digits: 2)) recorded, " }
    text += "\(Decimal.text(fidelity.replayedInFlight, digits: 2)) replayed\n"
    for item in fidelity.notReplayed { text += "            not replayed: \(item.requests) × \(item.reason)\n" }
    return text
  }
}
