/// The key figures of a report for the textfile collector of Prometheus' node exporter (text format 0.0.4): seconds and bytes, as
/// Prometheus wants them.
struct PrometheusText {
  private(set) var text = ""
  private let labels: [(name: StaticString, value: String)]

  init(_ report: ReplayReport) {
    let report = report.printable
    let (run, trace) = (report.run, report.trace)
    labels = [("trace", trace.digest ?? ""), ("engine", run.engine), ("speed", run.speed), ("order", run.order)]
    gauge("trace_replay_created_seconds", "When the report was made, in seconds since 1970.", Double(report.createdUnixNanoseconds) / 1e9)
    gauge("trace_replay_elapsed_seconds", "How long the replay took.", Double(run.elapsedNanoseconds) / 1e9)
    gauge("trace_replay_cpu_seconds", "CPU time of the replay.", Double(run.cpuNanoseconds) / 1e9)
    gauge("trace_replay_requests_per_second", "Completed requests per second.", run.iops)
    gauge("trace_replay_partial", "1 when a signal ended the replay early.", run.partial ? 1 : 0)
    gauge("trace_replay_degraded", "1 when the replay was not faithful to the recording.", report.fidelity.verdict == .degraded ? 1 : 0)
    if let share = report.fidelity.lateShare {
      gauge("trace_replay_late_ratio", "Share of the requests that were submitted later than the lag budget.", share)
    }
    if let share = report.fidelity.lateByDependencyShare {
      gauge(
        "trace_replay_late_by_dependency_ratio", "Share of the requests that were late because others that they follow took longer.", share)
    }
    byOperation("trace_replay_requests", "Completed requests.", report) { Double($0.requests) }
    byOperation("trace_replay_bytes", "Bytes that were moved.", report) { Double($0.bytes) }
    byOperation("trace_replay_errors", "Requests that failed.", report) { Double($0.errors) }
    byOperation("trace_replay_short_transfers", "Transfers that moved fewer bytes than recorded.", report) { Double($0.shortTransfers) }
    summary("trace_replay_service_seconds", "Latency from submission to completion.", report.latency.service)
    if report.fidelity.verdict != .notApplicable {
      summary("trace_replay_response_seconds", "Latency from when a request was due to its completion.", report.latency.response)
      summary("trace_replay_lag_seconds", "How late requests were submitted.", report.latency.lag)
    }
  }

  private mutating func head(_ name: StaticString, _ help: StaticString, _ kind: StaticString) {
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind)\n"
  }

  private mutating func sample(_ name: String, _ extra: [(name: StaticString, value: String)], _ value: Double) {
    let all = (labels + extra).map { "\($0.name)=\"\(Self.escaped($0.value))\"" }.joined(separator: ",")
    text += "\(name){\(all)} \(value.isFinite ? "\(value)" : "NaN")\n"
  }

  private mutating func gauge(_ name: StaticString, _ help: StaticString, _ value: Double) {
    head(name, help, "gauge")
    sample("\(name)", [], value)
  }

  private mutating func byOperation(
    _ name: StaticString, _ help: StaticString, _ report: ReplayReport, _ value: (ReplayReport.Operation) -> Double
  ) {
    guard !report.operations.isEmpty else { return }
    head(name, help, "gauge")
    for operation in report.operations { sample("\(name)", [("operation", operation.operation)], value(operation)) }
  }

  private mutating func summary(_ name: StaticString, _ help: StaticString, _ latency: LatencySummary) {
    let histogram = latency.histogram
    guard histogram.count > 0 else { return }
    head(name, help, "summary")
    for (_, q) in LatencySummary.quantiles {
      sample("\(name)", [("quantile", "\(q)")], Double(histogram.quantile(q) ?? 0) / 1e9)
    }
    sample("\(name)_sum", [], Double(histogram.sumNanoseconds) / 1e9)
    sample("\(name)_count", [], Double(histogram.count))
  }

  /// A label's value: backslashes, quotes and ends of lines are escaped.
  static func escaped(_ text: String) -> String {
    var escaped = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": escaped += "\\\\"
      case "\"": escaped += "\\\""
      case "\n": escaped += "\\n"
      default: escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }
}
