/// One request on its way to an engine: plain memory.
struct ReplayRequest: BitwiseCopyable {
  /// When it is due, in nanoseconds after the replay's start.
  var dueNanoseconds: Int64
  var offsetBytes: Int64
  var lengthBytes: Int
  /// Bytes that the recorded call moved, −1 when not known or when it failed.
  var expectedBytes: Int64
  /// Number of the event in the trace (plus the trace's length for each further loop).
  var number: UInt64
  /// Counts the replayed requests from 0.
  var ordinal: UInt64
  var recordedLatencyNanoseconds: Int64
  var file: UInt32
  var fileDescriptor: Int32
  var processID: Int32
  var threadID: Int32
  var callFlags: Int32
  var flags: TraceEventFlags
  var kind: IOOperation.Kind
  var isBlockDevice: Bool
}

/// A flat buffer of requests that travels between the decoding thread and a worker.
final class RequestBatch: @unchecked Sendable {
  static let capacity = 512
  let requests: UnsafeMutablePointer<ReplayRequest>
  var count = 0
  /// First request that no worker has claimed, and requests that are not done; under the queue's lock.
  var claimed = 0
  var unfinished = 0

  init() { requests = .allocate(capacity: Self.capacity) }
  deinit { requests.deallocate() }
}
