/// The decoding side of a replay, on a thread of its own: reads the trace, makes requests, deals them out.
final class RequestProducer: @unchecked Sendable {
  private let reader: TraceReader
  private var builder: RequestBuilder
  private let filter: EventFilter
  private let queues: [RequestQueue]
  private let targets: [ReplayTarget]
  /// What the hot path needs of each target; a row of `targets` has strings in it, which a copy would have to retain.
  private struct Destination {
    var descriptor: Int32
    var directDescriptor: Int32
    var isBlockDevice: Bool
  }
  private let destinations: [Destination]
  private let loops: Int
  private var open: [RequestBatch?]
  private var workerOfThread: [Int64: Int] = [:]
  private var lastThread: Int64?
  private var lastWorker = 0
  private(set) var requests: UInt64 = 0
  private(set) var failure: TraceError?
  var notReplayed: [String: UInt64] { builder.notReplayed }

  /// - Parameters:
  ///   - queues: one for all workers, or one for each.
  ///   - targets: by file id; empty for engines without targets.
  init(reader: TraceReader, builder: RequestBuilder, filter: EventFilter, queues: [RequestQueue], targets: [ReplayTarget], loops: Int) {
    self.reader = reader
    self.builder = builder
    self.filter = filter
    self.queues = queues
    self.targets = targets
    destinations = targets.map {
      Destination(descriptor: $0.descriptor, directDescriptor: $0.directDescriptor, isBlockDevice: $0.isBlockDevice)
    }
    self.loops = loops
    open = Array(repeating: nil, count: queues.count)
  }

  func run() {
    do throws(TraceError) {
      for loop in 0..<loops {
        if loop > 0 { builder.nextLoop(events: reader.knownEvents) }
        guard try pass() else { break }
      }
    } catch { failure = error }
    flush()
    queues.forEach { $0.close() }
  }

  /// One pass over the trace; false when the replay was stopped.
  private func pass() throws(TraceError) -> Bool {
    if filter.start != Int64.min { try reader.seek(toTime: filter.start) } else { try reader.rewind() }
    let batch = EventBatch(capacity: RequestBatch.capacity)
    let canEndEarly = filter.end != Int64.max && reader.isSorted
    while try reader.next(into: batch) {
      guard queues.count == 1 ? dealToOne(batch) : dealToMany(batch) else { return false }
      if canEndEarly, batch.count > 0, batch.events[0].startNanoseconds >= filter.end { break }
    }
    return true
  }

  /// All requests of a batch into the one queue. Works on local copies: properties of a class are checked at each access.
  private func dealToOne(_ batch: EventBatch) -> Bool {
    var builder = self.builder
    defer { self.builder = builder }
    guard var output = open[0] ?? free(0) else { return false }
    open[0] = nil
    let events = batch.events
    let first = batch.firstEvent
    for i in 0..<batch.count {
      let request = output.requests + output.count
      guard builder.build(events + i, number: first + UInt64(i), into: request) else { continue }
      assign(request)
      output.count += 1
      requests += 1
      if output.count == RequestBatch.capacity {
        queues[0].put(output)
        guard let next = free(0) else { return false }
        output = next
      }
    }
    open[0] = output
    return true
  }

  private func dealToMany(_ batch: EventBatch) -> Bool {
    let scratch = UnsafeMutablePointer<ReplayRequest>.allocate(capacity: 1)
    defer { scratch.deallocate() }
    for i in 0..<batch.count {
      guard builder.build(batch.events + i, number: batch.firstEvent + UInt64(i), into: scratch) else { continue }
      assign(scratch)
      guard put(scratch.pointee) else { return false }
      requests += 1
    }
    return true
  }

  @inline(__always)
  private func assign(_ request: UnsafeMutablePointer<ReplayRequest>) {
    guard !targets.isEmpty else { return }
    let target = destinations[Int(request.pointee.file)]
    request.pointee.isBlockDevice = target.isBlockDevice
    request.pointee.fileDescriptor = target.descriptor
    if target.directDescriptor >= 0, request.pointee.flags.contains(.direct),
      (request.pointee.offsetBytes | Int64(request.pointee.lengthBytes)) & 511 == 0
    {
      request.pointee.fileDescriptor = target.directDescriptor
    }
  }

  @inline(__always)
  private func put(_ request: ReplayRequest) -> Bool {
    let worker = workerFor(request)
    if open[worker] == nil {
      guard let batch = free(worker) else { return false }
      open[worker] = batch
    }
    let batch = open[worker]!
    batch.requests[batch.count] = request
    batch.count += 1
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

  /// Recorded threads go round over the workers in the order of their first request.
  private func workerFor(_ request: ReplayRequest) -> Int {
    let thread = Int64(request.processID) << 32 | Int64(UInt32(bitPattern: request.threadID))
    if thread == lastThread { return lastWorker }
    let worker = workerOfThread[thread] ?? workerOfThread.count % queues.count
    if workerOfThread.count < 1 << 20 { workerOfThread[thread] = worker }
    lastThread = thread
    lastWorker = worker
    return worker
  }
}
