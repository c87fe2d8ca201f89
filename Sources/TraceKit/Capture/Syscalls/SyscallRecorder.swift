import CTrace
import Glibc

/// Records the system calls of running processes through the kernel's tracing, without touching the processes.
public enum SyscallRecorder {
  public struct Outcome: Sendable {
    public var summary: RecordingSummary
    public var counters: SyscallCounters
    /// The route that was taken, never `auto`, and why.
    public var route: CallRoute
    public var reason: String
  }

  /// Attaches, records until the end, detaches.
  /// - Throws: when nothing could be recorded; a failure on the way is in the summary.
  public static func record(_ target: AttachTarget, _ options: TracingOptions) throws(TraceError) -> Outcome {
    let session = try TracingSession(purpose: "trace-record attach", options: options, pauseMicroseconds: (500, 2000))
    defer { session.end() }
    let processes = try target.find()
    let plain = options.measuresCost ? fastestLoop() : nil
    let source = try CallSource(options, session)
    let tasks = try session.makeInstance(bufferBytes: source.tasksBufferBytes(options))
    let cost = try plain.flatMap { plain throws(TraceError) in try measureCost(source, tasks).map { max(0, $0 - plain) } }
    let output = try TracingOutput(options, source: source.route.rawValue, detail: target.described, costPerEventNanoseconds: cost)
    do throws(TraceError) {
      let attachment = try Attachment(target, processes, session, tasks, source, options, output)
      return attachment.run(options, output)
    } catch {
      output.abandon()
      throw error
    }
  }

  /// Neighbours only add: the fastest of three. `before` is called before each.
  private static func fastestLoop(rounds: Int = RecordingCost.mostRounds, _ before: () -> Void = {}) -> Double? {
    (0..<3).compactMap { _ in
      before()
      return RecordingCost.timedLoop(rounds: rounds)
    }.min()
  }

  /// What the traced thread pays for a call: a loop of calls of this thread while they are recorded.
  private static func measureCost(_ source: CallSource, _ instance: TraceInstance) throws(TraceError) -> Double? {
    if let tracing = source.tracing {
      tracing.rings.follow([ctrace_gettid()])
      defer {
        tracing.rings.ignore([ctrace_gettid()])
        tracing.rings.clear()
      }
      // What finds no room in a ring costs less.
      let rounds = tracing.rings.layout.records / (2 * RecordingCost.callsPerRound)
      return fastestLoop(rounds: max(1, min(rounds, RecordingCost.mostRounds))) { tracing.rings.clear() }
    }
    try instance.set("set_event_pid", "\(ctrace_gettid())")
    for direction in ["enter", "exit"] { try instance.enable("syscalls", "sys_\(direction)_pread64") }
    try instance.set("tracing_on", "1")
    let traced = fastestLoop()
    try instance.set("tracing_on", "0")
    try instance.set("set_event", "\n")
    try instance.set("set_event_pid", "\n")
    instance.clear()
    return traced
  }
}

/// One recording of system calls.
private final class Attachment {
  private let target: AttachTarget
  private let session: TracingSession
  /// Events of tasks, and of calls where no program records them.
  private let tasks: TraceInstance
  private let source: CallSource
  private let counters = TransferCounters()
  private let decoder: SyscallDecoder
  private let attachedNanoseconds: UInt64
  private var knownThreads: Set<Int32>

  init(
    _ target: AttachTarget, _ processes: [Int32], _ session: TracingSession, _ tasks: TraceInstance, _ source: CallSource,
    _ options: TracingOptions, _ output: TracingOutput
  ) throws(TraceError) {
    self.target = target
    self.session = session
    self.tasks = tasks
    self.source = source
    let events = source.events
    try Self.enable(tasks, source, target, processes, session)
    if !events.uringEvents.isEmpty {
      // Requests complete in contexts of other threads (workers, interrupts), so these events are not limited to the processes.
      let uring = try session.makeInstance(suffix: "-uring", bufferBytes: options.bufferBytes / 2)
      for event in events.uringEvents { try uring.enable("io_uring", event) }
      try uring.set("tracing_on", "1")
    }
    try session.drain.start()
    try tasks.set("tracing_on", "1")
    knownThreads = []
    let found = try Self.addThreads(tasks, source, target, processes, &knownThreads)
    let snapshots = Self.snapshots(found)
    guard !snapshots.isEmpty else { throw TraceError(.refused, "the processes to attach to have ended") }
    let counters = counters
    counters.begin(snapshots.map(\.process))
    attachedNanoseconds = UInt64(ctrace_monotonic_ns())
    decoder = SyscallDecoder(
      events: events,
      scope: .init(epochNanoseconds: output.epochNanoseconds, attachedNanoseconds: attachedNanoseconds, takesAll: target == .all),
      layout: session.layout, streams: session.drain.streamCount, snapshots: snapshots, from: session.queue, to: output.queue,
      kernelCount: { counters.transferred($0) })
    try decoder.start()
    options.whenReady?("attached to \(snapshots.count) processes with \(snapshots.reduce(0) { $0 + $1.threads.count }) threads")
  }

  private static func enable(
    _ instance: TraceInstance, _ source: CallSource, _ target: AttachTarget, _ processes: [Int32], _ session: TracingSession
  ) throws(TraceError) {
    // Children are followed from the first moment: this option must stand before the list of threads.
    try instance.set("options/event-fork", "1")
    if target == .all {
      try instance.excludeThreads(session.ownThreads)
      source.tracing?.rings.followAll(except: session.ownThreads)
    } else {
      // An empty list would mean every thread of the machine, so one stands there before tracing begins.
      try instance.set("set_event_pid", "\(processes[0])")
    }
    for (system, event) in source.events.taskEvents { try instance.enable(system, event) }
    if let tracing = source.tracing {
      session.drain.add(tracing.rings)
      return
    }
    for kind in source.events.calls {
      try instance.enable("syscalls", "sys_enter_\(kind.name)")
      try instance.enable("syscalls", "sys_exit_\(kind.name)")
    }
  }

  /// Names every thread of the processes, and of the children that appear meanwhile, until no new one is found.
  private static func addThreads(
    _ instance: TraceInstance, _ source: CallSource, _ target: AttachTarget, _ processes: [Int32], _ known: inout Set<Int32>
  ) throws(TraceError) -> [Int32] {
    // Those that have begun since the first look are there too, now that nothing is missed any more.
    if target == .all { return (try? target.find()) ?? processes }
    var found = processes
    while true {
      let threads = found.flatMap { ProcessSnapshot.threads(of: $0) }.filter { !known.contains($0) }
      guard !threads.isEmpty else { break }
      try instance.addThreads(threads)
      source.tracing?.rings.follow(threads)
      known.formUnion(threads)
      found = (try? target.find()) ?? found
    }
    return found
  }

  private static func snapshots(_ processes: [Int32]) -> [ProcessSnapshot] {
    var known = ProcessSnapshot.Known()
    return processes.compactMap { ProcessSnapshot($0, known: &known) }
  }

  // MARK: While it runs

  func run(_ options: TracingOptions, _ output: TracingOutput) -> SyscallRecorder.Outcome {
    TracingSession.wait(
      options.durationNanoseconds, isOver: { self.decoder.isAlone && self.target != .all || output.stopped.isSet },
      tick: { self.lookAgain() })
    source.tracing?.detach()
    session.stopTracing()
    // At once: what is recorded goes on while the last of it is decoded.
    self.counters.end()
    session.drain.finish()
    let decoded = decoder.join()
    var counters = decoded.counters
    counters.kernelEventsLost = session.drain.totals.lostEvents
    counters.isByPrograms = source.tracing != nil
    counters.calls32Bit = source.tracing?.rings.skipped32BitCalls ?? 0
    var summary = output.finish { ledger in
      counters.fill(&ledger)
    } metadata: { metadata in
      metadata.summary = counters.figures
    }
    summary.notes = counters.lines + summary.notes
    summary.remedies = TracingOutput.remedies
    return .init(summary: summary, counters: counters, route: source.route, reason: source.reason)
  }

  /// Processes that came to be meant since: of that name, or in that cgroup.
  private func lookAgain() {
    let threads = target.findAgain().flatMap { ProcessSnapshot.threads(of: $0) }.filter { !knownThreads.contains($0) }
    guard !threads.isEmpty else { return }
    knownThreads.formUnion(threads)
    try? tasks.addThreads(threads)
    source.tracing?.rings.follow(threads)
  }
}
