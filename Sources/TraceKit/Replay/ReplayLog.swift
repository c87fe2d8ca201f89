import Glibc

/// Writes what a replay did as a trace: the recorded requests with the times that were measured, each with its number in the
/// trace that was replayed. Workers hand over whole batches; what has become old enough is sorted and written then.
final class ReplayLog: @unchecked Sendable {
  /// One worker's side.
  struct Channel {
    private let log: ReplayLog
    private var events: [TraceEvent] = []

    private let streams: StreamTable

    fileprivate init(_ log: ReplayLog, _ streams: StreamTable) {
      self.log = log
      self.streams = streams
      events.reserveCapacity(RequestBatch.capacity)
    }

    mutating func append(_ request: ReplayRequest, number: UInt64, submitted: Int64, completed: Int64, result: Int64) {
      let operation = request.kind.traceOperation
      let hasSize = request.kind != .fsync && request.kind != .fdatasync && request.kind != .truncate
      let hasOffset = request.kind != .fsync && request.kind != .fdatasync
      let thread = streams.thread(request.stream)
      events.append(
        TraceEvent(
          startNanoseconds: submitted, operation: operation, file: request.file,
          offsetBytes: hasOffset ? UInt64(request.offsetBytes) : TraceEvent.unknownOffset,
          sizeBytes: hasSize ? UInt64(request.lengthBytes) : TraceEvent.unknownSize, latencyNanoseconds: completed &- submitted,
          result: result, processID: thread.processID, threadID: thread.threadID, flags: request.flags, request: number))
      if events.count == RequestBatch.capacity { flush(upTo: completed) }
    }

    mutating func finish() { flush(upTo: Int64.max) }

    private mutating func flush(upTo time: Int64) {
      log.take(events, from: time)
      events.removeAll(keepingCapacity: true)
    }
  }

  private let writer: TraceWriter
  private var window = ReorderWindow()
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private var failure: TraceError?

  /// - Parameter replayed: reader of the trace that is replayed; its file table goes into the log.
  init(path: String, replayed: TraceReader, digest: String?, overwrite: Bool) throws(TraceError) {
    var metadata = TraceMetadata(source: "replay")
    metadata.replayedDigest = digest
    metadata.tool = "trace-replay \(ToolVersion.current)"
    metadata.host = HostFacts.current()
    metadata.clock = "CLOCK_MONOTONIC"
    metadata.command = [replayed.path]
    var options = TraceWriter.Options()
    options.overwrite = overwrite
    writer = try TraceWriter(path: path, metadata: metadata, options: options)
    for file in replayed.files { _ = writer.addFile(file) }
    lock = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
  }

  deinit {
    pthread_mutex_destroy(lock)
    lock.deallocate()
  }

  /// - Parameter streams: the recorded threads that requests name.
  func channel(_ streams: StreamTable) -> Channel { Channel(self, streams) }

  private func take(_ events: [TraceEvent], from time: Int64) {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    guard failure == nil else { return }
    for event in events { window.append(event) }
    do throws(TraceError) {
      if window.count > 1 << 19 { try window.drain(before: time &- 1_000_000_000) { event throws(TraceError) in try writer.append(event) } }
    } catch { failure = error }
  }

  /// Writes the rest and closes the log.
  func finish(complete: Bool) throws(TraceError) {
    if let failure { throw failure }
    try window.drainAll { event throws(TraceError) in try writer.append(event) }
    try writer.finish(lossless: complete)
  }
}
