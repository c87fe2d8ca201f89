import CTrace

/// Replays a trace: surveys it, plans and opens targets, runs the workers, and gives back what was measured.
public final class Replayer {
  /// A moment of a running replay, for people.
  public struct Progress: Sendable {
    public var requests: UInt64
    public var expectedRequests: UInt64?
    public var elapsedNanoseconds: Int64
  }

  public let tracePath: String
  public let options: ReplayOptions
  private let engine: EngineRegistry.Entry
  private let reader: TraceReader
  private let filter: EventFilter
  private let builder: RequestBuilder
  /// Warnings that the user must see: damage, a trace with gaps.
  public private(set) var warnings: [String] = []

  /// Opens the trace and checks the options.
  public init(tracePath: String, options: ReplayOptions) throws(TraceError) {
    self.tracePath = tracePath
    self.options = options
    engine = try EngineRegistry.engine(options.engine)
    reader = try TraceReader(path: tracePath)
    filter = EventFilter(options, files: reader.files, epoch: try Self.epoch(reader))
    builder = RequestBuilder(speed: options.order == .depth ? .maximum : options.speed, filter: filter, files: reader.files)
    let shown = PrintableText.escaped(tracePath)
    for damage in reader.damages.prefix(5) { warnings.append("\(shown): \(damage)") }
    if reader.totals == nil { warnings.append("\(shown): was not closed; its digest and losses are not known") }
    if let totals = reader.totals, !totals.lossless {
      warnings.append("\(shown): requests are missing from this trace (\(totals.gaps) gaps)")
    }
  }

  private static func epoch(_ reader: TraceReader) throws(TraceError) -> Int64 {
    let batch = EventBatch(capacity: 1)
    defer { try? reader.rewind() }
    return try reader.next(into: batch) ? batch.events[0].startNanoseconds : 0
  }

  // MARK: Planning

  /// What a run would do; nothing is opened for writing and nothing made.
  public func dryRun() throws(TraceError) -> ReplayPlanSummary {
    let survey = try takeSurvey()
    var summary = ReplayPlanSummary(survey: survey.survey, notReplayed: survey.notReplayed, speed: options.speed)
    guard engine.needsTargets else { return summary }
    var permissive = options.targets
    permissive.allowWrites = true
    let plan = try TargetPlan(files: reader.files, survey: survey.survey, options: permissive)
    summary.targets = plan.entries.map { entry in
      let file = survey.survey.files[Int(entry.file)]
      return ReplayPlanSummary.Target(
        recorded: reader.files[Int(entry.file)].displayPath,
        target: entry.below?.folder.isEmpty == true ? "scratch file \(entry.path)" : PrintableText.escaped(entry.path),
        exists: entry.exists,
        bytesOverwritten: entry.exists ? file.bytesToWrite : 0, changes: file.changes, requests: file.requests,
        needsPermission: entry.exists && file.changes && !options.targets.allowWrites)
    }
    return summary
  }

  private func takeSurvey() throws(TraceError) -> (survey: TraceSurvey, notReplayed: [String: UInt64]) {
    var survey = TraceSurvey(fileCount: reader.files.count)
    var builder = builder
    let batch = EventBatch(capacity: 1024)
    let request = UnsafeMutablePointer<ReplayRequest>.allocate(capacity: 1)
    defer { request.deallocate() }
    try reader.rewind()
    while try reader.next(into: batch) {
      for i in 0..<batch.count where builder.build(batch.events + i, number: batch.firstEvent + UInt64(i), into: request) {
        survey.add(request)
      }
    }
    return (survey, builder.notReplayed)
  }

  // MARK: Running

  /// Runs the replay.
  /// - Parameter progress: called about ten times a second on the calling thread.
  /// - Throws: refusals before the first request; afterwards only when the trace can't be read on, or the log not written.
  public func run(progress: (Progress) -> Void = { _ in }) throws(TraceError) -> ReplayReport {
    let knownDamages = reader.damages.count
    var survey: TraceSurvey?
    var targets: TargetSet?
    defer { targets?.cleanUp() }
    var payload = Payload(seed: options.seed, largestBytes: 0)
    if engine.needsTargets {
      let taken = try takeSurvey().survey
      guard taken.largestRequestBytes <= 4 << 30 else {
        throw TraceError(
          .refused,
          "\(PrintableText.escaped(tracePath)): a request of \(ByteCount.text(taken.largestRequestBytes)); engines take at most 4 GiB in one"
        )
      }
      let plan = try TargetPlan(files: reader.files, survey: taken, options: options.targets)
      payload = Payload(seed: options.seed, largestBytes: Int(taken.largestRequestBytes))
      targets = try TargetSet(plan, files: reader.files, survey: taken, options: options.targets, payload: payload)
      survey = taken
    }
    let workers = workerCount()
    let expected = survey.map { $0.requests * UInt64(options.loops) }
    let control = ReplayControl(
      options: options, pacer: options.speed.isTimed ? Pacer.calibrated() : Pacer(marginNanoseconds: 0), payload: payload,
      largestRead: Int(survey?.largestRequestBytes ?? 0), workers: workers)
    let log = try makeLog()
    let session = ReplaySession(
      engine: engine, options: options, reader: reader, builder: builder, filter: filter, control: control, workers: workers,
      targets: targets?.targets ?? [], expectedRequests: expected, log: log)
    let outcome = try session.run(progress: progress)
    for damage in reader.damages.dropFirst(knownDamages).prefix(5) { warnings.append("\(PrintableText.escaped(tracePath)): \(damage)") }
    try log?.finish(complete: outcome.stopSignal == 0)
    let assembly = ReportAssembly(
      tracePath: tracePath, reader: reader, options: options, outcome: outcome, targets: targets?.targets ?? [],
      notes: targets?.notes ?? [],
      workers: workers, expectedRequests: expected)
    return assembly.report()
  }

  private func workerCount() -> Int {
    let recorded = reader.totals.map { Int(clamping: max(1, $0.threads)) } ?? ReplayOptions.defaultMaximumWorkers
    let limit = options.workers ?? ReplayOptions.defaultMaximumWorkers
    // With 'streams', more workers than recorded threads would have nothing to do.
    if options.order == .streams { return max(1, min(limit, recorded)) }
    return options.workers ?? max(1, min(limit, recorded))
  }

  private func makeLog() throws(TraceError) -> ReplayLog? {
    guard let path = options.logPath else { return nil }
    return try ReplayLog(path: path, replayed: reader, digest: reader.totals?.digest.hexadecimal, overwrite: options.overwriteLog)
  }
}
