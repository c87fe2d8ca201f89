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
    var stopSignal: Int32
    var marginNanoseconds: Int64
  }

  let engine: EngineRegistry.Entry
  let options: ReplayOptions
  let reader: TraceReader
  let builder: RequestBuilder
  let filter: EventFilter
  let control: ReplayControl
  let workers: Int
  let targets: [ReplayTarget]
  let expectedRequests: UInt64?
  let log: ReplayLog?

  func run(progress: (Replayer.Progress) -> Void) throws(TraceError) -> Outcome {
    let queues = makeQueues()
    let producer = RequestProducer(
      reader: reader, builder: builder, filter: filter, queues: queues, targets: targets, loops: options.loops)
    let fileRows = min(reader.files.count, workers <= 4 ? WorkerTally.maximumFileRows : 16)
    let results = (0..<workers).map { _ in
      WorkerResult(
        WorkerTally(isTimed: control.isTimed, lagBudget: control.lagBudget, fileRows: fileRows, expectedRequests: expectedRequests))
    }
    let cpuBefore = ctrace_process_cpu_ns()
    // The first batches are decoded before the clock starts.
    let decoding = try WorkerThread { producer.run() }
    let firstBatches = ctrace_monotonic_ns() + 20_000_000
    while ctrace_monotonic_ns() < firstBatches, !queues.contains(where: { $0.hasBatches }) {
      ctrace_sleep_until(ctrace_monotonic_ns() + 100_000)
    }
    control.anchor = ctrace_monotonic_ns() + (control.isTimed ? 2_000_000 : 0)
    let done = DoneCount()
    var threads: [WorkerThread] = []
    for (i, result) in results.enumerated() {
      threads.append(try start(queues[i % queues.count], result, done))
    }
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
      stopSignal: ctrace_stop_signal(), marginNanoseconds: control.pacer.marginNanoseconds)
  }

  private func makeQueues() -> [RequestQueue] {
    if options.order == .streams, workers > 1 { return (0..<workers).map { _ in RequestQueue(batches: max(3, 32 / workers)) } }
    // Few batches, so that they stay in the CPU's cache and leave room there for what is replayed.
    return [RequestQueue(batches: 24)]
  }

  private func start(_ queue: RequestQueue, _ result: WorkerResult, _ done: DoneCount) throws(TraceError) -> WorkerThread {
    let limit = options.order == .streams || workers == 1 ? RequestBatch.capacity : control.isTimed ? 1 : 8
    let (engine, control, channel) = (engine, control, log?.channel())
    return try WorkerThread {
      engine.runWorker(queue, control, result, limit, channel)
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
      if ctrace_stop_signal() != 0 { queues.forEach { $0.stop() } }
      let now = ctrace_monotonic_ns()
      guard now - lastReport >= 100_000_000 else { continue }
      lastReport = now
      progress(
        Replayer.Progress(
          requests: control.progress, expectedRequests: expectedRequests, elapsedNanoseconds: now - control.anchor))
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
