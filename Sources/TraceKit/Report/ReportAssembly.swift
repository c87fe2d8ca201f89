import CTrace
import Glibc

/// Makes a report of what the workers measured.
struct ReportAssembly {
  let tracePath: String
  let reader: TraceReader
  let options: ReplayOptions
  let engine: EngineRegistry.Entry
  let outcome: ReplaySession.Outcome
  let targets: [ReplayTarget]
  let notes: [String]
  /// State of the page cache before the run; nil without targets.
  let cache: String?
  /// What `--verify` found; nil without it.
  let verification: VerificationResult?
  let workers: Int
  let iodepth: Int
  let expectedRequests: UInt64?

  func report() -> ReplayReport {
    outcome.results.forEach { $0.tally.pointee.finish() }
    let operations = IOOperation.Kind.allCases.compactMap(operation)
    var all = LatencySet()
    for kind in IOOperation.Kind.allCases { all.merge(latencies(kind)) }
    let (intervals, width) = intervalSeries()
    var report = ReplayReport(
      schema: .init(name: ReplayReport.schemaName, version: ReplayReport.schemaVersion), tool: "trace-replay \(ToolVersion.current)",
      createdUnixNanoseconds: ctrace_realtime_ns(), trace: trace(), run: run(operations), latency: LatencyTriple(all),
      operations: operations,
      sizeClasses: sizeClasses(), files: files(), windows: windows(), intervals: intervals, intervalNanoseconds: width, errors: errors(),
      fidelity: fidelity(operations), targets: targetRows(), targetCount: targets.count { $0.requests > 0 }, notes: notes,
      host: HostFacts.current(), options: optionRows())
    report.worstRequests = worstRequests()
    report.verification = verification.map(verificationRow)
    outcome.producer.withPicture { picture in
      report.offsetMap = ReplayReport.OffsetGrid(picture.offsets)
      report.recordedIntervals = ReplayReport.RecordedInterval.rows(picture.series)
      report.recordedIntervalNanoseconds = picture.series.intervalNanoseconds
      let latency = picture.series.latency
      if latency.count > 0 { report.recordedLatency = LatencySummary(latency) }
    }
    return report
  }

  private func worstRequests() -> [ReplayReport.WorstRequest] {
    let rows = outcome.results.flatMap(\.worst.all).sorted { ($1.service, $0.number) < ($0.service, $1.number) }
    return rows.prefix(WorstRequests.rows).map { row in
      let isWhole = row.kind == .fsync || row.kind == .fdatasync
      return ReplayReport.WorstRequest(
        request: row.number, operation: row.kind.name, file: reader.files[Int(row.file)].displayPath,
        offsetBytes: isWhole ? nil : UInt64(row.offsetBytes), sizeBytes: UInt64(row.lengthBytes), atNanoseconds: row.submitted,
        lagNanoseconds: options.speed.isTimed && options.order != .depth ? row.lag : nil, serviceNanoseconds: row.service,
        result: row.result)
    }
  }

  private func verificationRow(_ result: VerificationResult) -> ReplayReport.Verification {
    ReplayReport.Verification(
      readBlocksChecked: result.readBlocksChecked, readBlocksNotChecked: result.readBlocksNotChecked,
      readBlocksCorrupt: result.readBlocksCorrupt, blocksChecked: result.blocksChecked, blocksAmbiguous: result.blocksAmbiguous,
      blocksCorrupt: result.blocksCorrupt,
      findings: result.findings.map { finding in
        ReplayReport.Verification.Finding(
          target: PrintableText.escaped(targets[finding.target].path), offsetBytes: UInt64(finding.offsetBytes),
          duringRun: finding.duringRun, message: finding.text)
      })
  }

  private func trace() -> ReplayReport.Trace {
    let totals = reader.totals
    return ReplayReport.Trace(
      path: PrintableText.escaped(tracePath), digest: totals?.digest.hexadecimal, requests: totals?.events ?? reader.knownEvents,
      bytesRead: totals?.bytesRead ?? 0, bytesWritten: totals?.bytesWritten ?? 0, durationNanoseconds: totals?.durationNanoseconds ?? 0,
      lossless: totals.map { $0.lossless && reader.damages.isEmpty })
  }

  private func run(_ operations: [ReplayReport.Operation]) -> ReplayReport.Run {
    let requests = operations.reduce(0) { $0 + $1.requests }
    let seconds = Double(max(1, outcome.elapsedNanoseconds)) / 1e9
    func bytes(_ name: String) -> UInt64 { operations.first { $0.operation == name }?.bytes ?? 0 }
    return ReplayReport.Run(
      engine: options.engine, speed: options.speed.name, order: options.order.rawValue, late: options.late.rawValue, workers: workers,
      iodepth: workers * iodepth, filter: filterText(), loops: options.loops, elapsedNanoseconds: outcome.elapsedNanoseconds,
      cpuNanoseconds: outcome.cpuNanoseconds, requests: requests, iops: (Double(requests) / seconds * 10).rounded() / 10,
      bytesRead: bytes("read"), bytesWritten: bytes("write"), errors: operations.reduce(0) { $0 + $1.errors },
      submissionErrors: outcome.results.reduce(0) { $0 + $1.submissionErrors },
      shortTransfers: operations.reduce(0) { $0 + $1.shortTransfers }, dropped: outcome.results.reduce(0) { $0 + $1.dropped },
      shiftNanoseconds: outcome.shiftNanoseconds, partial: outcome.stopSignal != 0 || outcome.endedEarly,
      failure: outcome.failure)
  }

  /// What was left out, as text that is equal for equal filters.
  private func filterText() -> String {
    var parts: [String] = []
    if let from = options.fromNanoseconds { parts.append("from \(from) ns") }
    if let to = options.toNanoseconds { parts.append("to \(to) ns") }
    if let only = options.only { parts.append("only \(only.name)") }
    for glob in options.fileGlobs { parts.append("file \(PrintableText.escaped(glob))") }
    return parts.joined(separator: ", ")
  }

  // MARK: Latencies

  private func latencies(_ kind: IOOperation.Kind) -> LatencySet {
    var set = LatencySet()
    for result in outcome.results {
      for sizeClass in 0..<WorkerTally.sizeClasses {
        if let some = result.tally.pointee.latencies(kind, sizeClass) { set.merge(some) }
      }
    }
    return set
  }

  private func operation(_ kind: IOOperation.Kind) -> ReplayReport.Operation? {
    var total = WorkerTally.Counter()
    for result in outcome.results {
      for sizeClass in 0..<WorkerTally.sizeClasses {
        let counter = result.tally.pointee.counter(kind, sizeClass)
        total.requests += counter.requests
        total.bytes += counter.bytes
        total.errors += counter.errors
        total.shortTransfers += counter.shortTransfers
      }
    }
    guard total.requests > 0 else { return nil }
    return ReplayReport.Operation(
      operation: kind.name, requests: total.requests, bytes: total.bytes, errors: total.errors, shortTransfers: total.shortTransfers,
      latency: LatencyTriple(latencies(kind)))
  }

  private func sizeClasses() -> [ReplayReport.SizeClass] {
    (0..<WorkerTally.sizeClasses).compactMap { sizeClass in
      var histogram = LatencyHistogram()
      for result in outcome.results {
        for kind in IOOperation.Kind.allCases {
          if let set = result.tally.pointee.latencies(kind, sizeClass) { histogram.merge(set.service) }
        }
      }
      guard histogram.count > 0 else { return nil }
      let last = sizeClass == WorkerTally.sizeClasses - 1
      let bound: UInt64? = last ? nil : sizeClass == 0 ? 0 : 256 << UInt64(sizeClass)
      return ReplayReport.SizeClass(upToBytes: bound, requests: histogram.count, service: LatencySummary(histogram))
    }
  }

  private func files() -> [ReplayReport.File] {
    guard let first = outcome.results.first else { return [] }
    return (0..<first.fileRowCount).compactMap { row in
      var counter = WorkerTally.Counter()
      var service = LatencyHistogram()
      for result in outcome.results {
        let one = result.tally.pointee.fileCounter(row)
        counter.requests += one.requests
        counter.bytes += one.bytes
        counter.errors += one.errors
        service.merge(result.tally.pointee.fileService(row))
      }
      guard counter.requests > 0 else { return nil }
      let isRest = row == first.fileRowCount - 1 || row >= reader.files.count
      return ReplayReport.File(
        path: isRest ? "(all other files)" : reader.files[row].displayPath, requests: counter.requests, bytes: counter.bytes,
        errors: counter.errors, service: LatencySummary(service))
    }
  }

  private func windows() -> [ReplayReport.Window] {
    guard let first = outcome.results.first else { return [] }
    var series = first.tally.pointee.windows()
    for result in outcome.results.dropFirst() { series.merge(result.tally.pointee.windows()) }
    while series.windows.count > WindowSeries.maximumWindows { series.coarsen() }
    return series.windows.enumerated().map { i, set in
      ReplayReport.Window(firstRequest: UInt64(i) * series.windowRequests, requests: set.service.count, latency: LatencyTriple(set))
    }
  }

  private func intervalSeries() -> ([ReplayReport.Interval], Int64) {
    let width = outcome.results.map(\.intervalNanoseconds).max() ?? 1_000_000_000
    for result in outcome.results {
      while result.intervalNanoseconds < width { result.tally.pointee.coarsenIntervals() }
    }
    let count = min(WorkerTally.maximumIntervals, Int(outcome.elapsedNanoseconds / width) + 1)
    let rows = (0..<count).map { i in
      var row = ReplayReport.Interval(startNanoseconds: Int64(i) * width, requests: 0, bytes: 0, errors: 0, maximumLagNanoseconds: 0)
      for result in outcome.results {
        row.requests += result.intervals[i].requests
        row.bytes += result.intervals[i].bytes
        row.bytesWritten = (row.bytesWritten ?? 0) + result.intervals[i].bytesWritten
        row.bytesRead = (row.bytesRead ?? 0) + result.intervals[i].bytes - result.intervals[i].bytesWritten
        row.serviceNanoseconds = (row.serviceNanoseconds ?? 0) + UInt64(max(0, result.intervals[i].service))
        row.errors += result.intervals[i].errors
        row.maximumLagNanoseconds = max(row.maximumLagNanoseconds, result.intervals[i].largestLag)
      }
      return row
    }
    return (rows, width)
  }

  private func errors() -> [ReplayReport.ErrorCount] {
    var counts: [WorkerTally.ErrorKey: UInt64] = [:]
    for result in outcome.results { counts.merge(result.errors) { $0 + $1 } }
    return counts.map { key, count in
      let message = engine.meaning(key.code, key.kind) ?? String(cString: strerror(key.code))
      return ReplayReport.ErrorCount(operation: key.kind.name, errno: key.code, message: message, requests: count)
    }.sorted { ($0.operation, $0.errno) < ($1.operation, $1.errno) }
  }

  // MARK: Fidelity

  private func fidelity(_ operations: [ReplayReport.Operation]) -> ReplayReport.Fidelity {
    let issued = operations.reduce(0) { $0 + $1.requests }
    let wanted = max(expectedRequests ?? outcome.produced, outcome.produced)
    let isTimed = options.speed.isTimed && options.order != .depth
    let late = outcome.results.reduce(0) { $0 + $1.lateRequests }
    let lateShare = isTimed && issued > 0 ? Double(late) / Double(issued) : nil
    let lateByDependency = outcome.results.reduce(0) { $0 + $1.lateByDependency }
    let lateByDependencyShare = lateShare.map { _ in Double(lateByDependency) / Double(issued) }
    // What waits for slow storage is a result; what the replayer loses is a fault.
    let ownLateShare = (lateShare ?? 0) - (lateByDependencyShare ?? 0)
    let gaps = outcome.results.reduce(0) { $0 + $1.interarrivals }
    let errorSum = outcome.results.reduce(0.0) { $0 + Double($1.interarrivalErrorSum) }
    let dueSpan = outcome.results.reduce(0.0) { $0 + Double($1.dueSpan) }
    let recordedLatencies = outcome.recordedLatencies.count
    let recordedSum = Double(outcome.recordedLatencies.sum)
    let serviceSum = outcome.results.reduce(0.0) { $0 + Double($1.serviceSum) }
    let recordedSpan = Double(reader.totals?.durationNanoseconds ?? 0) * Double(options.loops)
    var reasons: [String] = []
    let failed = operations.reduce(0) { $0 + $1.errors }
    let short = operations.reduce(0) { $0 + $1.shortTransfers }
    let dropped = outcome.results.reduce(0) { $0 + $1.dropped }
    if let failure = outcome.failure { reasons.append(failure) }
    if outcome.stopSignal != 0 { reasons.append("stopped by a signal after \(issued) of \(wanted) requests") }
    if dropped > 0 { reasons.append("\(dropped) requests were dropped because they were late") }
    if outcome.shiftNanoseconds > 0 { reasons.append("the schedule was moved by \(DurationText.text(outcome.shiftNanoseconds))") }
    if ownLateShare > 0.01 {
      reasons.append(
        "\(Decimal.text(ownLateShare * 100, digits: 1)) % of the requests were more than \(DurationText.text(options.lagBudgetNanoseconds)) late"
      )
    }
    if failed > 0 { reasons.append("\(failed) requests failed that had not failed when recorded") }
    if short > 0 { reasons.append("\(short) transfers were shorter than recorded") }
    let notReplayed = outcome.notReplayed.map { ReplayReport.NotReplayed(reason: $0.key, requests: $0.value) }.sorted {
      $0.reason < $1.reason
    }
    if !reader.damages.isEmpty { reasons.append("the trace is damaged") }
    if reader.totals?.lossless == false { reasons.append("the trace has gaps") }
    return ReplayReport.Fidelity(
      verdict: !isTimed ? .notApplicable : reasons.isEmpty ? .faithful : .degraded, reasons: reasons,
      lagBudgetNanoseconds: options.lagBudgetNanoseconds, lateShare: lateShare, lateByDependencyShare: lateByDependencyShare, orderInversions: outcome.inversions,
      overlappingRequests: outcome.results.reduce(0) { $0 + $1.overlaps },
      interarrivalError: isTimed && gaps > 0 && dueSpan > 0 ? errorSum / dueSpan : nil, recordedRequests: wanted, issuedRequests: issued,
      recordedInFlight: recordedLatencies > 0 && recordedSpan > 0 ? recordedSum / recordedSpan : nil,
      replayedInFlight: outcome.elapsedNanoseconds > 0 ? serviceSum / Double(outcome.elapsedNanoseconds) : 0, notReplayed: notReplayed)
  }

  // MARK: Conditions

  private func targetRows() -> [ReplayReport.Target] {
    targets.filter { $0.requests > 0 }.prefix(100).map { target in
      var status = statfs()
      let known = target.addressScheme == nil && statfs(target.path, &status) == 0
      let kind =
        target.addressScheme
        ?? (target.isBlockDevice
          ? "block_device" : !target.isNew ? "existing" : options.targets.target == nil && options.targets.map.isEmpty ? "scratch" : "new")
      return ReplayReport.Target(
        path: PrintableText.escaped(target.path), kind: kind,
        filesystem: known ? FilesystemName.name(UInt64(bitPattern: Int64(status.f_type))) : nil)
    }
  }

  private func optionRows() -> [String: String] {
    var rows = ["seed": String(options.seed), "lag-budget": DurationText.text(options.lagBudgetNanoseconds)]
    for result in outcome.results.prefix(1) { rows.merge(result.conditions) { first, _ in first } }
    // What is of each connection, in the order of the workers.
    for result in outcome.results.dropFirst() where !targets.allSatisfy({ $0.addressScheme == nil }) {
      rows.merge(result.conditions) { $0 == $1 ? $0 : "\($0), \($1)" }
    }
    if options.speed.isTimed { rows["pacing-margin"] = DurationText.text(outcome.marginNanoseconds) }
    if options.keepsThinkTime { rows["think-time"] = "kept" }
    if options.division != .threads { rows["by"] = options.division.rawValue }
    if !options.cpus.isEmpty { rows["cpus"] = options.cpus.map(String.init).joined(separator: ",") }
    if options.targets.allowWrites { rows["allow-writes"] = "yes" }
    if options.verifies { rows["verify"] = "yes" }
    if let cache { rows["cache"] = cache }
    if options.cacheUse != .recorded { rows["o-direct"] = options.cacheUse == .direct ? "all (--direct)" : "none (--buffered)" }
    if options.synchronousWrites { rows["writes"] = "synchronous (--sync)" }
    if options.compressiblePercent > 0 { rows["compressible"] = "\(options.compressiblePercent) %" }
    if options.targets.offsetBytes > 0 { rows["offset"] = String(options.targets.offsetBytes) }
    if options.targets.wrap != .error { rows["wrap"] = options.targets.wrap.rawValue }
    return rows
  }
}
