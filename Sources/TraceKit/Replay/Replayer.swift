import CTrace

/// Replays a trace: surveys it, plans and opens targets, runs the workers, and gives back what was measured.
public final class Replayer {
  /// A moment of a running replay, for people.
  public struct Progress: Sendable {
    public enum Phase: Sendable {
      case running
      /// Scratch files are being filled: bytes done, and all of them.
      case filling(UInt64, UInt64)
      /// What was written is being checked: bytes done.
      case verifying(UInt64)
    }

    public var phase = Phase.running
    public var requests: UInt64
    public var expectedRequests: UInt64?
    public var elapsedNanoseconds: Int64
    /// Requests that failed.
    public var errors: UInt64 = 0
    /// Lag of one of the latest requests; nil at maximum speed.
    public var lagNanoseconds: Int64?
  }

  public let tracePath: String
  /// What the run goes by; an order that the trace cannot give is replaced before it, and the report says so.
  public private(set) var options: ReplayOptions
  private var notes: [String] = []
  private let engine: EngineRegistry.Entry
  private let reader: TraceReader
  private let filter: EventFilter
  private let builder: RequestBuilder
  private let schedule: ReplaySchedule
  /// Warnings that the user must see: damage, a trace with gaps.
  public private(set) var warnings: [String] = []

  /// Opens the trace and checks the options.
  public init(tracePath: String, options: ReplayOptions) throws(TraceError) {
    self.tracePath = tracePath
    self.options = options
    engine = try EngineRegistry.engine(options.engine)
    reader = try TraceReader(path: tracePath)
    filter = EventFilter(options, files: reader.files, epoch: try Self.epoch(reader))
    builder = RequestBuilder(filter: filter, files: reader.files, engine: engine, options: options)
    schedule = ReplaySchedule(options.order == .depth ? .maximum : options.speed)
    try Self.checkEngine(engine, options)
    let shown = PrintableText.escaped(tracePath)
    for damage in reader.damages.prefix(5) { warnings.append("\(shown): \(damage)") }
    if reader.totals == nil { warnings.append("\(shown): was not closed; its digest and losses are not known") }
    if let totals = reader.totals, !totals.lossless {
      warnings.append("\(shown): requests are missing from this trace (\(totals.gaps) gaps)")
    }
  }

  /// Start of the first event.
  static func epoch(_ reader: TraceReader) throws(TraceError) -> Int64 {
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
    guard engine.targetKind == .files else {
      summary.targets = [try RemoteTargets.planned(options, engine: engine, files: reader.files, survey: survey.survey)]
      return summary
    }
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

  private func takeSurvey() throws(TraceError) -> (survey: TraceSurvey, notReplayed: [String: UInt64], store: RequestStore) {
    try TraceSurvey.take(reader, builder: builder, filter: filter, schedule: schedule)
  }

  /// Refuses an engine that this machine cannot run, or not with these settings.
  private static func checkEngine(_ engine: EngineRegistry.Entry, _ options: ReplayOptions) throws(TraceError) {
    if let reason = engine.unavailability() {
      throw TraceError(.unsupported, "--engine \(engine.name): \(reason); 'trace-replay engines' lists what this machine can run")
    }
    if options.keepsThinkTime, options.speed.isTimed || !options.order.hasDependencies {
      throw TraceError(.usage, "--think-time: needs --speed max, and --order streams or dependencies")
    }
    if let reason = engine.refusal(of: options.engineOptions) { throw TraceError(.usage, reason) }
    try RemoteTargets.checkTarget(options, engine)
    if options.verifies, !engine.needsTargets || !engine.capabilities.lastingTarget {
      throw TraceError(.usage, "--verify: the engine \(engine.name) has nothing that could be read back")
    }
  }

  // MARK: Running

  /// Runs the replay.
  /// - Parameter progress: called about ten times a second on the calling thread.
  /// - Throws: refusals before the first request; afterwards only when the trace can't be read on, or the log not written.
  public func run(progress: (Progress) -> Void = { _ in }) throws(TraceError) -> ReplayReport {
    let knownDamages = reader.damages.count
    var survey: TraceSurvey?
    var targets: TargetSet?
    var remote: RemoteTargets?
    defer {
      targets?.cleanUp()
      remote?.cleanUp()
    }
    var payload = Payload(seed: options.seed, largestBytes: 0)
    var store: RequestStore?
    if engine.needsTargets {
      let (taken, _, kept) = try takeSurvey()
      store = kept
      if options.order == .dependencies, taken.requests > 0, taken.recordedLatencies == 0 {
        options.order = .streams
        notes.append("the trace has no latencies: the order 'dependencies' is the same as 'streams'")
      }
      guard taken.largestRequestBytes <= 4 << 30 else {
        throw TraceError(
          .refused,
          "\(PrintableText.escaped(tracePath)): a request of \(ByteCount.text(taken.largestRequestBytes)); engines take at most 4 GiB in one"
        )
      }
      payload = Payload(
        seed: options.seed, largestBytes: Int(taken.largestRequestBytes), compressiblePercent: options.compressiblePercent)
      if engine.targetKind == .files {
        let plan = try TargetPlan(files: reader.files, survey: taken, options: options.targets)
        targets = try openTargets(plan, taken, payload, progress)
      } else {
        remote = try RemoteTargets(options, engine: engine, files: reader.files, survey: taken, workers: workerCount())
      }
      survey = taken
    }
    let cache = try prepareCache(targets)
    let rows = remote?.targets ?? targets?.targets ?? []
    let workers = workerCount()
    let iodepth = options.engineOptions.iodepth ?? engine.defaultIodepth
    let expected = survey.map { $0.requests * UInt64(options.loops) }
    let control = ReplayControl(
      options: options, pacer: options.speed.isTimed || options.keepsThinkTime ? Pacer.calibrated() : Pacer(marginNanoseconds: 0),
      payload: payload,
      streams: builder.streams, largestRequestBytes: Int(survey?.largestRequestBytes ?? 0),
      writes: (survey?.bytesWritten ?? 0) > 0, targets: rows,
      tracksInversions: workers > 1 || (engine.isAsynchronous && options.order.hasDependencies))
    if options.verifies, let targets, let survey {
      control.verification = try ReplayVerification(
        stamps: stamps, targets: targets.targets, survey: survey, folder: Self.temporaryFolder)
    }
    let log = try makeLog()
    var session = ReplaySession(
      engine: engine, options: options, reader: reader, builder: builder, filter: filter, control: control, workers: workers,
      iodepth: iodepth, store: store, survey: survey, expectedRequests: expected, log: log)
    session.connections = remote?.connections ?? []
    if let targets { options.beforeRun?(targets.targets) }
    let outcome = try session.run(progress: progress)
    let verification = try check(control.verification, outcome, targets, progress)
    for damage in reader.damages.dropFirst(knownDamages).prefix(5) { warnings.append("\(PrintableText.escaped(tracePath)): \(damage)") }
    try log?.finish(complete: outcome.stopSignal == 0)
    let assembly = ReportAssembly(
      tracePath: tracePath, reader: reader, options: options, engine: engine, outcome: outcome, targets: rows,
      notes: notes + (remote?.notes ?? targets?.notes ?? []), cache: cache, verification: verification,
      workers: workers, iodepth: iodepth, expectedRequests: expected)
    return assembly.report()
  }

  private func openTargets(
    _ plan: TargetPlan, _ survey: TraceSurvey, _ payload: Payload, _ progress: (Progress) -> Void
  ) throws(TraceError) -> TargetSet {
    var targetOptions = options.targets
    targetOptions.requiresDirect = options.cacheUse == .direct
    let start = ctrace_monotonic_ns()
    var shown = start
    return try TargetSet(
      plan, files: reader.files, survey: survey, options: targetOptions, payload: payload, stamps: options.verifies ? stamps : nil
    ) { done, all in
      let now = ctrace_monotonic_ns()
      guard now - shown > 100_000_000 else { return }
      shown = now
      progress(Progress(phase: .filling(done, all), requests: 0, expectedRequests: nil, elapsedNanoseconds: now - start))
    }
  }

  private var stamps: StampedBlock { StampedBlock(seed: options.seed, compressiblePercent: options.compressiblePercent) }

  private static var temporaryFolder: String {
    getenv("TMPDIR").map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 } ?? "/tmp"
  }

  /// What `--verify` found during the run, and finds on the targets now; nil without it.
  private func check(
    _ verification: ReplayVerification?, _ outcome: ReplaySession.Outcome, _ targets: TargetSet?, _ progress: (Progress) -> Void
  ) throws(TraceError) -> VerificationResult? {
    guard let verification, let targets else { return nil }
    var result = VerificationResult()
    for worker in outcome.results { if let found = worker.verification { result.add(found) } }
    options.beforeCheck?(targets.targets)
    let start = ctrace_monotonic_ns()
    var shown = start
    try verification.checkTargets(targets.targets, into: &result) { done in
      let now = ctrace_monotonic_ns()
      guard now - shown > 100_000_000 else { return }
      shown = now
      progress(Progress(phase: .verifying(done), requests: 0, expectedRequests: nil, elapsedNanoseconds: now - start))
    }
    return result
  }

  /// Evicts what is to be evicted. Returns the state of the page cache for the report; nil without targets.
  private func prepareCache(_ targets: TargetSet?) throws(TraceError) -> String? {
    guard let targets else { return nil }
    if options.targets.cold { try TargetCache.evict(targets.targets) }
    if options.targets.dropsSystemCaches { try TargetCache.dropSystem() }
    let how = options.targets.dropsSystemCaches ? "dropped, " : options.targets.cold ? "cold, " : ""
    return how + TargetCache.state(targets.targets)
  }

  private func workerCount() -> Int {
    let recorded = reader.totals.map { Int(clamping: max(1, $0.threads)) } ?? ReplayOptions.defaultMaximumWorkers
    // A peer is met once unless the user asks for more.
    if engine.targetKind != .files { return options.workers ?? 1 }
    // One worker of an engine that keeps many in flight does what many threads did.
    if engine.isAsynchronous { return options.workers ?? 1 }
    let limit = options.workers ?? ReplayOptions.defaultMaximumWorkers
    // With 'streams', more workers than recorded threads would have nothing to do.
    if options.order == .streams, options.division == .threads { return max(1, min(limit, recorded)) }
    return options.workers ?? max(1, min(limit, recorded))
  }

  private func makeLog() throws(TraceError) -> ReplayLog? {
    guard let path = options.logPath else { return nil }
    return try ReplayLog(path: path, replayed: reader, digest: reader.totals?.digest.hexadecimal, overwrite: options.overwriteLog)
  }
}
