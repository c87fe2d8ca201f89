/// Every figure of a report as a line of CSV (RFC 4180): group, item, figure, value. Durations are in nanoseconds, sizes in bytes.
///
/// Spreadsheets take a cell that begins with =, +, -, @ for a formula, so a text from outside that begins with one gets an apostrophe
/// in front.
struct CSVReport {
  private(set) var text = "group,item,figure,value\r\n"

  init(_ report: ReplayReport) {
    let report = report.printable
    addConditions(report)
    add("latency", "lag", report.latency.lag)
    add("latency", "service", report.latency.service)
    add("latency", "response", report.latency.response)
    if let recorded = report.recordedLatency { add("latency", "recorded", recorded) }
    addMeasurements(report)
    addSeries(report)
  }

  private mutating func add(_ group: String, _ item: String, _ figure: String, _ value: String) {
    text += [group, item, figure, value].map(Self.cell).joined(separator: ",") + "\r\n"
  }

  private mutating func add(_ group: String, _ item: String, _ figure: String, _ value: some BinaryInteger) {
    text += "\(Self.cell(group)),\(Self.cell(item)),\(figure),\(value)\r\n"
  }

  private mutating func add(_ group: String, _ item: String, _ figure: String, _ value: Double?) {
    guard let value, value.isFinite else { return }
    text += "\(Self.cell(group)),\(Self.cell(item)),\(figure),\(value)\r\n"
  }

  private mutating func add(_ group: String, _ item: String, _ summary: LatencySummary, prefix: String = "") {
    let histogram = summary.histogram
    add(group, item, prefix + "count", histogram.count)
    guard let minimum = histogram.minimum, let maximum = histogram.maximum else { return }
    add(group, item, prefix + "min_ns", minimum)
    add(group, item, prefix + "mean_ns", Int64((histogram.mean ?? 0).rounded()))
    for (key, q) in LatencySummary.quantiles { if let value = histogram.quantile(q) { add(group, item, "\(prefix)\(key)_ns", value) } }
    add(group, item, prefix + "max_ns", maximum)
  }

  private mutating func addConditions(_ report: ReplayReport) {
    let (trace, run, host) = (report.trace, report.run, report.host)
    add("report", "", "schema_version", report.schema.version)
    add("report", "", "tool", report.tool)
    add("report", "", "created_unix_ns", report.createdUnixNanoseconds)
    add("trace", "", "path", trace.path)
    add("trace", "", "digest", trace.digest ?? "")
    add("trace", "", "requests", trace.requests)
    add("trace", "", "bytes_read", trace.bytesRead)
    add("trace", "", "bytes_written", trace.bytesWritten)
    add("trace", "", "duration_ns", trace.durationNanoseconds)
    for (name, value) in [
      ("engine", run.engine), ("speed", run.speed), ("order", run.order), ("late", run.late), ("filter", run.filter),
      ("partial", run.partial ? "true" : "false"),
    ] { add("run", "", name, value) }
    add("run", "", "workers", run.workers)
    add("run", "", "iodepth", run.iodepth)
    add("run", "", "loops", run.loops)
    add("run", "", "elapsed_ns", run.elapsedNanoseconds)
    add("run", "", "cpu_ns", run.cpuNanoseconds)
    add("run", "", "requests", run.requests)
    add("run", "", "iops", run.iops)
    add("run", "", "bytes_read", run.bytesRead)
    add("run", "", "bytes_written", run.bytesWritten)
    add("run", "", "errors", run.errors)
    add("run", "", "short_transfers", run.shortTransfers)
    add("run", "", "dropped", run.dropped)
    add("run", "", "shift_ns", run.shiftNanoseconds)
    for (name, value) in report.options.sorted(by: { $0.key < $1.key }) { add("option", name, "value", value) }
    add("host", "", "name", host.hostName)
    add("host", "", "kernel", host.kernel)
    add("host", "", "cpus", host.cpuCount)
    add("host", "", "cpu_model", host.cpuModel ?? "")
    for target in report.targets { add("target", target.path, target.kind, target.filesystem ?? "") }
  }

  private mutating func addMeasurements(_ report: ReplayReport) {
    let fidelity = report.fidelity
    add("fidelity", "", "verdict", fidelity.verdict.rawValue)
    for reason in fidelity.reasons { add("fidelity", "", "reason", reason) }
    add("fidelity", "", "lag_budget_ns", fidelity.lagBudgetNanoseconds)
    add("fidelity", "", "late_share", fidelity.lateShare)
    add("fidelity", "", "late_by_dependency_share", fidelity.lateByDependencyShare)
    add("fidelity", "", "order_inversions", fidelity.orderInversions)
    add("fidelity", "", "interarrival_error", fidelity.interarrivalError)
    add("fidelity", "", "recorded_in_flight", fidelity.recordedInFlight)
    add("fidelity", "", "replayed_in_flight", fidelity.replayedInFlight)
    for item in fidelity.notReplayed { add("not_replayed", item.reason, "requests", item.requests) }
    for error in report.errors { add("error", "\(error.operation): \(error.message)", "requests", error.requests) }
    for operation in report.operations {
      add("operation", operation.operation, "requests", operation.requests)
      add("operation", operation.operation, "bytes", operation.bytes)
      add("operation", operation.operation, "errors", operation.errors)
      add("operation", operation.operation, "short_transfers", operation.shortTransfers)
      add("operation", operation.operation, operation.latency.lag, prefix: "lag_")
      add("operation", operation.operation, operation.latency.service, prefix: "service_")
      add("operation", operation.operation, operation.latency.response, prefix: "response_")
    }
    for row in report.sizeClasses { add("size", row.upToBytes.map { "up to \($0)" } ?? "larger", row.service, prefix: "service_") }
    for file in report.files {
      add("file", file.path, "bytes", file.bytes)
      add("file", file.path, "errors", file.errors)
      add("file", file.path, file.service, prefix: "service_")
    }
    for request in report.worstRequests ?? [] {
      let item = String(request.request)
      add("worst_request", item, "operation", request.operation)
      add("worst_request", item, "file", request.file)
      if let offset = request.offsetBytes { add("worst_request", item, "offset_bytes", offset) }
      add("worst_request", item, "size_bytes", request.sizeBytes)
      add("worst_request", item, "at_ns", request.atNanoseconds)
      if let lag = request.lagNanoseconds { add("worst_request", item, "lag_ns", lag) }
      add("worst_request", item, "service_ns", request.serviceNanoseconds)
      add("worst_request", item, "result", request.result)
    }
    for note in report.notes { add("note", "", "text", note) }
  }

  private mutating func addSeries(_ report: ReplayReport) {
    for window in report.windows {
      let item = String(window.firstRequest)
      add("window", item, window.latency.service, prefix: "service_")
      add("window", item, window.latency.response, prefix: "response_")
    }
    add("interval", "", "width_ns", report.intervalNanoseconds)
    for interval in report.intervals {
      let item = String(interval.startNanoseconds)
      add("interval", item, "requests", interval.requests)
      add("interval", item, "bytes", interval.bytes)
      if let bytes = interval.bytesRead { add("interval", item, "bytes_read", bytes) }
      if let bytes = interval.bytesWritten { add("interval", item, "bytes_written", bytes) }
      if let sum = interval.serviceNanoseconds { add("interval", item, "service_ns", sum) }
      add("interval", item, "errors", interval.errors)
      add("interval", item, "max_lag_ns", interval.maximumLagNanoseconds)
    }
    guard let recorded = report.recordedIntervals, let width = report.recordedIntervalNanoseconds else { return }
    add("recorded_interval", "", "width_ns", width)
    for interval in recorded {
      let item = String(interval.startNanoseconds)
      add("recorded_interval", item, "requests", interval.requests)
      add("recorded_interval", item, "bytes_read", interval.bytesRead)
      add("recorded_interval", item, "bytes_written", interval.bytesWritten)
      if let latency = interval.latencyNanoseconds { add("recorded_interval", item, "latency_ns", latency) }
    }
  }

  /// A cell, quoted where it must be.
  static func cell(_ text: String) -> String {
    let isFormula = text.unicodeScalars.first.map { "=+-@\t\r".unicodeScalars.contains($0) } ?? false
    let safe = isFormula ? "'" + text : text
    let isPlain = safe.utf8.allSatisfy { $0 != 0x22 && $0 != 0x2C && $0 != 0x0A && $0 != 0x0D } && safe.first != " " && safe.last != " "
    guard !isPlain else { return safe }
    var quoted = "\""
    for scalar in safe.unicodeScalars {
      if scalar == "\"" { quoted += "\"" }
      quoted.unicodeScalars.append(scalar)
    }
    return quoted + "\""
  }
}
