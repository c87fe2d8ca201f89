import CTrace

/// One run of the workers, from the first request to the last.
struct ReplaySession {
  /// What a run leaves behind.
  struct Outcome {
    var results: [WorkerResult]
    var elapsedNanoseconds: Int64
    var cpuNanoseconds: Int64
    var shiftNanoseconds: Int64
    var inversions: UInt64
    var notReplayed: [String: UInt64]
    var produced: UInt64
    /// Sum of the recorded latencies of the requests, and how many are known.
    var recordedLatencies: (sum: Int64, count: UInt64) { producer.recordedLatencies }
    /// What handed the requests out, for the picture of the recording.
    var producer: RequestProducer
    var stopSignal: Int32
    var marginNanoseconds: Int64
    /// No further request could succeed.
    var endedEarly = false
    /// Why it ended early, or why the run can't be trusted.
    var failure: String?
  }

  let engine: EngineRegistry.Entry
  let options: ReplayOptions
  let reader: TraceReader
  let builder: RequestBuilder
  let filter: EventFilter
  let control: ReplayControl
  let workers: Int
  let iodepth: Int
  let store: RequestStore?
  let survey: TraceSurvey?
  let expectedRequests: UInt64?
  let log: ReplayLog?
  /// One for each worker, for engines whose targets are peers.
  var connections: [NetConnection] = []

  func run(progress: (Replayer.Progress) -> Void) throws(TraceError) -> Outcome {
    let queues = makeQueues()
    let producer = RequestProducer(
      reader: reader, builder: builder, filter: filter, queues: queues, division: options.division, loops: options.loops, store: store,
      picture: RecordedPicture(survey: survey, files: reader.files))
    let fileRows = min(reader.files.count, workers <= 4 ? WorkerTally.maximumFileRows : 16)
    let results = (0..<workers).map { _ in
      WorkerResult(
        WorkerTally(isTimed: control.isTimed, lagBudget: control.lagBudget, fileRows: fileRows, expectedRequests: expectedRequests))
    }
    let done = DoneCount()
    var threads: [WorkerThread] = []
    let dependencies =
      options.order == .dependencies && !engine.isAsynchronous && workers > 1 ? SharedDependencies(workers: workers) : nil
    for (i, result) in results.enumerated() {
      threads.append(try start(i, queues[i % queues.count], result, dependencies, done))
    }
    do throws(TraceError) {
      try control.waitUntilReady(workers)
    } catch {
      threads.forEach { $0.join() }
      throw error
    }
    let cpuBefore = ctrace_process_cpu_ns()
    let decoding = try WorkerThread { producer.run() }
    // The first batches are there before the clock starts.
    let firstBatches = ctrace_monotonic_ns() + 20_000_000
    while ctrace_monotonic_ns() < firstBatches, !queues.contains(where: { $0.hasBatches }) {
      ctrace_sleep_until(ctrace_monotonic_ns() + 50_000)
    }
    control.anchor = ctrace_monotonic_ns() + (control.isTimed ? 2_000_000 : 0)
    control.go()
    watch(queues, done, progress)
    threads.forEach { $0.join() }
    // Workers that stopped early leave the producer waiting.
    queues.forEach { $0.stop() }
    decoding.join()
    if let failure = producer.failure { throw failure }
    let end = results.map(\.lastCompletion).max() ?? 0
    return Outcome(
      results: results, elapsedNanoseconds: max(0, end), cpuNanoseconds: ctrace_process_cpu_ns() - cpuBefore,
      shiftNanoseconds: control.shift, inversions: control.inversions, notReplayed: producer.notReplayed, produced: producer.requests,
      producer: producer,
      stopSignal: ctrace_stop_signal(), marginNanoseconds: control.pacer.marginNanoseconds, endedEarly: control.hasEnded,
      failure: control.failure)
  }

  private func makeQueues() -> [RequestQueue] {
    // On a schedule the decoding thread may be kept waiting for a CPU: what a worker has must last that long.
    let batches = control.isTimed ? max(8, 128 / workers) : max(3, 32 / workers)
    if dividesRequests { return (0..<workers).map { _ in RequestQueue(batches: batches) } }
    // Few batches, so that they stay in the CPU's cache and leave room there for what is replayed.
    return [RequestQueue(batches: 24)]
  }

  /// Each worker has a queue of its own.
  private var dividesRequests: Bool { workers > 1 && (options.order == .streams || options.division == .files) }

  private func start(
    _ index: Int, _ queue: RequestQueue, _ result: WorkerResult, _ dependencies: SharedDependencies?, _ done: DoneCount
  ) throws(TraceError) -> WorkerThread {
    let limit = dividesRequests || workers == 1 ? RequestBatch.capacity : control.isTimed ? 1 : 8
    let setup = WorkerSetup(
      queue: queue, control: control, result: result, claimLimit: limit, iodepth: iodepth, dependencies: dependencies,
      log: log?.channel(control.streams), cpu: options.cpus.isEmpty ? nil : options.cpus[index % options.cpus.count],
      connection: connections.isEmpty ? nil : connections[index])
    let engine = engine
    return try WorkerThread {
      engine.runWorker(setup)
      done.increment()
    }
  }

  /// Waits for the workers; reports progress, and wakes them when a stop signal came.
  private func watch(_ queues: [RequestQueue], _ done: DoneCount, _ progress: (Replayer.Progress) -> Void) {
    var lastReport = ctrace_monotonic_ns()
    var pause: Int64 = 200_000
    while done.value < workers {
      ctrace_sleep_until(ctrace_monotonic_ns() + pause)
      pause = min(20_000_000, pause * 2)
      if ctrace_stop_signal() != 0 || control.hasEnded { queues.forEach { $0.stop() } }
      let now = ctrace_monotonic_ns()
      guard now - lastReport >= 100_000_000 else { continue }
      lastReport = now
      progress(
        Replayer.Progress(
          requests: control.progress, expectedRequests: expectedRequests, elapsedNanoseconds: now - control.anchor,
          errors: control.errors, lagNanoseconds: control.isTimed ? control.latestLag : nil))
    }
  }

  /// Counts finished workers.
  private final class DoneCount: @unchecked Sendable {
    private let word: UnsafeMutablePointer<UInt64>
    init() {
      word = .allocate(capacity: 1)
      word.initialize(to: 0)
    }
    deinit { word.deallocate() }
    func increment() { _ = ctrace_fetch_add64(word, 1) }
    var value: Int { Int(ctrace_load_acquire64(word)) }
  }
}
