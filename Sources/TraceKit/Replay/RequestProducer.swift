/// The decoding side of a replay, on a thread of its own: reads the trace, makes requests, deals them out.
final class RequestProducer: @unchecked Sendable {
  private let reader: TraceReader
  private var builder: RequestBuilder
  private let filter: EventFilter
  private let queues: [RequestQueue]
  private let division: WorkerDivision
  private let loops: Int
  private let store: RequestStore?
  /// Behind a pointer: properties of a class are checked at each access.
  private let picture: UnsafeMutablePointer<RecordedPicture>
  private var isFirstPass = true
  private var open: [RequestBatch?]
  private var workerOfKey: [UInt32: Int] = [:]
  private var lastKey: UInt32?
  private var lastWorker = 0
  private(set) var requests: UInt64 = 0
  private(set) var failure: TraceError?
  var notReplayed: [String: UInt64] { builder.notReplayed }
  /// Sum of the recorded latencies of what was handed out (and of what was kept of the survey), and their number.
  var recordedLatencies: (sum: Int64, count: UInt64) { (builder.recordedLatencySum, builder.recordedLatencies) }

  /// - Parameters:
  ///   - queues: one for all workers, or one for each.
  ///   - store: the first requests, where a survey kept them.
  init(
    reader: TraceReader, builder: RequestBuilder, filter: EventFilter, queues: [RequestQueue], division: WorkerDivision, loops: Int,
    store: RequestStore?, picture: consuming RecordedPicture
  ) {
    self.reader = reader
    self.builder = store?.builder ?? builder
    self.filter = filter
    self.queues = queues
    self.division = division
    self.loops = loops
    self.store = store
    self.picture = .allocate(capacity: 1)
    self.picture.initialize(to: picture)
    open = Array(repeating: nil, count: queues.count)
  }

  deinit {
    picture.deinitialize(count: 1)
    picture.deallocate()
  }

  /// Reads what the recording looked like; once the thread has ended.
  func withPicture<Value>(_ body: (borrowing RecordedPicture) -> Value) -> Value { body(picture.pointee) }

  func run() {
    do throws(TraceError) {
      for loop in 0..<loops {
        if loop > 0 {
          endPass()
          isFirstPass = false
          builder.nextLoop(events: reader.knownEvents)
        }
        guard try loop == 0 ? firstPass() : pass() else { break }
      }
    } catch { failure = error }
    endPass()
    queues.forEach { $0.close() }
  }

  /// Counts and hands over what the pass left in open batches.
  private func endPass() {
    if queues.count == 1, isFirstPass, let last = open[0] { picture.pointee.add(last.requests, count: last.count) }
    flush()
  }

  private func firstPass() throws(TraceError) -> Bool {
    guard let store else { return try pass() }
    for batch in store.batches where batch.count > 0 {
      requests += UInt64(batch.count)
      picture.pointee.add(batch.requests, count: batch.count)
      if queues.count == 1 {
        queues[0].put(batch)
      } else {
        guard distribute(batch, counted: true) else { return false }
      }
    }
    guard let next = store.nextEvent else { return true }
    try reader.seek(toEvent: next)
    return try rest()
  }

  /// One pass over the trace; false when the replay was stopped.
  private func pass() throws(TraceError) -> Bool {
    try filter.begin(reader)
    return try rest()
  }

  private func rest() throws(TraceError) -> Bool {
    let batch = EventBatch(capacity: RequestBatch.capacity)
    let scratch = RequestBatch()
    while try reader.next(into: batch), !filter.isPast(batch, of: reader) {
      guard queues.count == 1 ? dealToOne(batch) : dealToMany(batch, scratch) else { return false }
    }
    return true
  }

  /// All requests of a batch into the one queue. Works on local copies: properties of a class are checked at each access.
  private func dealToOne(_ batch: EventBatch) -> Bool {
    var builder = self.builder
    defer { self.builder = builder }
    guard var output = open[0] ?? free(0) else { return false }
    open[0] = nil
    let before = builder.issued
    var index = 0
    while true {
      builder.fill(output, batch.events, &index, count: batch.count, firstNumber: batch.firstEvent)
      guard index < batch.count else { break }
      if isFirstPass { picture.pointee.add(output.requests, count: output.count) }
      queues[0].put(output)
      guard let next = free(0) else { return false }
      output = next
    }
    requests += builder.issued - before
    open[0] = output
    return true
  }

  private func dealToMany(_ batch: EventBatch, _ scratch: RequestBatch) -> Bool {
    var index = 0
    while index < batch.count {
      scratch.count = 0
      let before = builder.issued
      builder.fill(scratch, batch.events, &index, count: batch.count, firstNumber: batch.firstEvent)
      requests += builder.issued - before
      guard distribute(scratch) else { return false }
    }
    return true
  }

  /// Copies the requests of a batch to the batches of their workers.
  private func distribute(_ source: RequestBatch, counted: Bool = false) -> Bool {
    if isFirstPass, !counted { picture.pointee.add(source.requests, count: source.count) }
    for i in 0..<source.count {
      let request = source.requests[i]
      let number = source.firstNumber + UInt64(request.numberOffset)
      let ordinal = source.firstOrdinal + UInt64(request.ordinalOffset)
      guard put(request, number: number, ordinal: ordinal) else { return false }
    }
    return true
  }

  @inline(__always)
  private func put(_ request: ReplayRequest, number: UInt64, ordinal: UInt64) -> Bool {
    let worker = workerFor(division == .files ? request.file : request.stream)
    if let batch = open[worker], !batch.takes(number: number, ordinal: ordinal) {
      queues[worker].put(batch)
      open[worker] = nil
    }
    if open[worker] == nil {
      guard let batch = free(worker) else { return false }
      open[worker] = batch
    }
    let batch = open[worker]!
    batch.requests[batch.count] = request
    batch.add(number: number, ordinal: ordinal)
    if batch.count == RequestBatch.capacity {
      queues[worker].put(batch)
      open[worker] = nil
    }
    return true
  }

  /// An empty batch of a worker. Before waiting for one, what the other workers could do is handed over.
  private func free(_ worker: Int) -> RequestBatch? {
    if let batch = queues[worker].takeFreeIfAny() {
      batch.count = 0
      return batch
    }
    flush()
    let batch = queues[worker].takeFree()
    batch?.count = 0
    return batch
  }

  private func flush() {
    for (worker, batch) in open.enumerated() {
      guard let batch else { continue }
      queues[worker].put(batch)
      open[worker] = nil
    }
  }

  /// Recorded threads (or files) go round over the workers in the order of their first request.
  private func workerFor(_ key: UInt32) -> Int {
    if key == lastKey { return lastWorker }
    let worker = workerOfKey[key] ?? workerOfKey.count % queues.count
    if workerOfKey.count < 1 << 20 { workerOfKey[key] = worker }
    lastKey = key
    lastWorker = worker
    return worker
  }
}
