extension DiffRun {
  /// The run of a report.
  public init(_ report: ReplayReport, name: String) {
    self.init(
      name: PrintableText.escaped(name), source: .report, engine: report.run.engine,
      createdUnixNanoseconds: report.createdUnixNanoseconds, digest: report.trace.digest,
      isTimed: report.fidelity.verdict != .notApplicable, conditions: Self.conditions(report), conditionsAreComplete: true,
      latencies: report.latency.set,
      windows: report.windows.map { Window(firstRequest: $0.firstRequest, latencies: $0.latency.set) },
      operations: report.operations.map {
        Operation(operation: $0.operation, requests: $0.requests, errors: $0.errors, service: $0.latency.service.histogram)
      }, totals: Self.totals(report), vetoes: Self.vetoes(report))
    var requests: UInt64 = 0
    progress = report.intervals.map { interval in
      requests &+= interval.requests
      return (interval.startNanoseconds &+ report.intervalNanoseconds, requests)
    }
  }

  private static func conditions(_ report: ReplayReport) -> [(name: String, value: String)] {
    let (run, host) = (report.run, report.host)
    var rows: [(name: String, value: String)] = [
      ("trace", report.trace.digest ?? "no digest"), ("filter", run.filter.isEmpty ? "none" : run.filter), ("speed", run.speed),
      ("order", run.order), ("loops", String(run.loops)), ("engine", run.engine), ("workers", String(run.workers)),
      ("iodepth", String(run.iodepth)), ("late", run.late), ("targets", targets(report)), ("host", host.hostName), ("kernel", host.kernel),
      ("CPU", host.cpuModel ?? "not known"), ("CPUs", String(host.cpuCount)),
      ("memory", host.memoryBytes.map(ByteCount.text) ?? "not known"), ("clock", host.clockSource ?? "not known"),
      ("devices", host.devices.map { "\($0.name) \($0.sizeBytes.map(ByteCount.text) ?? "?")" }.joined(separator: ", ")),
      ("schedulers", host.devices.map { "\($0.name) \($0.scheduler ?? "?")" }.joined(separator: ", ")), ("tool", report.tool),
    ]
    // The pacing margin is measured anew by each run, and scratch folders have names of their own.
    for key in report.options.keys.sorted() where key != "pacing-margin" { rows.append(("--\(key)", report.options[key]!)) }
    return rows.map { (PrintableText.escaped($0.name), PrintableText.escaped($0.value)) }
  }

  private static func targets(_ report: ReplayReport) -> String {
    let named = report.targets.filter { $0.kind != "scratch" }
    let kinds = Set(report.targets.map { "\($0.kind) on \($0.filesystem ?? "?")" }).sorted().joined(separator: ", ")
    guard let first = named.first else { return kinds }
    return "\(kinds): \(first.path)\(named.count > 1 ? " and \(named.count - 1) more" : "")"
  }

  private static func totals(_ report: ReplayReport) -> [String: Double] {
    let run = report.run
    let seconds = Double(max(1, run.elapsedNanoseconds)) / 1e9
    return [
      "requests": Double(run.requests), "iops": Double(run.requests) / seconds,
      "bytes_per_second": (Double(run.bytesRead) + Double(run.bytesWritten)) / seconds, "elapsed_ns": Double(run.elapsedNanoseconds),
      "bytes_read": Double(run.bytesRead), "bytes_written": Double(run.bytesWritten),
      "cpu_ns_per_request": Double(run.cpuNanoseconds) / Double(max(1, run.requests)), "errors": Double(run.errors),
      "short_transfers": Double(run.shortTransfers),
    ]
  }

  private static func vetoes(_ report: ReplayReport) -> [String] {
    var reasons: [String] = []
    if report.run.partial { reasons.append("is partial") }
    if report.fidelity.verdict == .degraded { reasons.append("is degraded: " + report.fidelity.reasons.joined(separator: "; ")) }
    // A run at maximum speed has no verdict of its own, but requests that fail at once must not pass for fast ones.
    if report.fidelity.verdict == .notApplicable {
      if report.run.errors > 0 { reasons.append("has \(report.run.errors) failed requests") }
      if report.run.shortTransfers > 0 { reasons.append("has \(report.run.shortTransfers) short transfers") }
    }
    if report.run.requests == 0 { reasons.append("has no requests") }
    return reasons.map { PrintableText.escaped($0) }
  }
}

extension LatencyTriple {
  var set: LatencySet {
    var set = LatencySet()
    set.lag = lag.histogram
    set.service = service.histogram
    set.response = response.histogram
    return set
  }
}
