import CTrace
import Glibc

/// io_uring(7): submission and completion queues shared with the kernel. Requests are submitted in batches, by the call that also
/// waits for completions; completions that are there are taken without a call.
///
/// Reads and writes with O_DIRECT go to a ring of their own when completions are polled for (IORING_SETUP_IOPOLL), since such a
/// ring refuses everything else.
public struct IOUringEngine: IOEngine, ~Copyable {
  public static let name = "io_uring"
  public static let summary = "submission and completion rings; batches, registered files, polling as options"
  public static var isAsynchronous: Bool { true }

  /// Its ring is the one that requests go to; descriptors could be waited for on it.
  private var loop: EventLoop
  private var polled: Ring?
  private let usesFixedFiles: Bool
  private let usesFixedBuffers: Bool
  private let readArena: UnsafeMutableRawBufferPointer
  private let takesTruncate: Bool
  /// What is left of requests that the kernel cuts at its limit per call, by slot; only those requests are in it.
  private var longRequests: [Int32: LongRequest] = [:]
  /// Those whose next piece the full submission queue did not take.
  private var heldBack: [Int32] = []
  /// What the kernel was last asked for each slot, to be asked again when a signal ended it.
  private let operations: UnsafeMutablePointer<IOOperation>
  /// Those that the full submission queue did not take again.
  private var interrupted: [Int32] = []
  private var retries = 0
  /// In a run; a kernel that cancels everything must not keep it from ending.
  private static let maximumRetries = 100_000
  private let drained: UnsafeMutablePointer<EventLoop.Completion>
  private let events: UnsafeMutablePointer<EventLoop.Event>
  private let limit: Int
  public private(set) var conditions: [String: String] = [:]

  private struct LongRequest {
    var operation: IOOperation
    var done: Int64 = 0

    /// What is left of it.
    var rest: IOOperation {
      var rest = operation
      rest.offsetBytes += done
      rest.lengthBytes -= Int(done)
      rest.buffer = rest.buffer.map { $0 + Int(done) }
      return rest
    }
  }

  public static func unavailability() -> String? { Ring.unavailability() }

  public static func features() -> [String] { Ring.kernelFeatures() }

  public static var settings: Set<EngineSetting> {
    [.iodepth, .submissionPolling, .completionPolling, .fixedBuffers, .eventLoop]
  }

  public static func refusal(of options: EngineOptions) -> String? {
    if options.submissionPolling, options.completionPolling {
      return "--sqpoll with --iopoll: a kernel thread that submits cannot be waited for by polling here; choose one"
    }
    if options.eventLoop == .epoll {
      return "--event-loop epoll: the engine io_uring waits on its ring; choose io_uring or auto, or another engine"
    }
    return nil
  }

  public init(_ configuration: EngineConfiguration) throws(TraceError) {
    let options = configuration.options
    var ring = try Ring(entries: configuration.iodepth, submissionPolling: options.submissionPolling)
    var polled: Ring? = nil
    if options.completionPolling { polled = try Ring(entries: configuration.iodepth, completionPolling: true) }
    let fixedFiles = !configuration.descriptors.isEmpty && ring.register(files: configuration.descriptors)
    if fixedFiles, polled != nil { _ = polled!.register(files: configuration.descriptors) }
    if options.fixedBuffers {
      try Self.registerBuffers(&ring, configuration)
      if polled != nil { try Self.registerBuffers(&polled!, configuration) }
    }
    let facts = [
      "io_uring-entries": String(ring.entries), "io_uring-setup": ring.features.joined(separator: " "),
      "registered-files": fixedFiles ? "yes" : "no",
    ]
    loop = try EventLoop(ring)
    self.polled = polled
    takesTruncate = loop.supports(operation: 55)
    conditions = facts
    if options.fixedBuffers { conditions["registered-buffers"] = "yes" }
    if options.submissionPolling { conditions["sqpoll"] = "yes" }
    if options.completionPolling { conditions["iopoll"] = "yes" }
    usesFixedFiles = fixedFiles
    usesFixedBuffers = options.fixedBuffers
    readArena = configuration.readArena
    limit = configuration.slots
    drained = .allocate(capacity: limit)
    operations = .allocate(capacity: limit)
    interrupted.reserveCapacity(limit)
    events = .allocate(capacity: 1)
  }

  deinit {
    drained.deallocate()
    operations.deallocate()
    events.deallocate()
  }

  private static func registerBuffers(_ ring: inout Ring, _ configuration: EngineConfiguration) throws(TraceError) {
    let write = UnsafeMutableRawBufferPointer(mutating: configuration.writeArena)
    if let code = ring.register(buffers: [write, configuration.readArena]) {
      throw TraceError(
        path: "--fixed", "register \(ByteCount.text(UInt64(write.count + configuration.readArena.count))) of buffers", errno: code,
        hint: code == ENOMEM ? "'ulimit -l' limits pinned memory; a lower --iodepth needs less" : "")
    }
  }

  // MARK: Submitting

  @inline(__always)
  public mutating func queue(_ operation: IOOperation, slot: Int32) -> QueueStatus {
    if operation.kind == .truncate, !takesTruncate { return .completed(SyncEngine.perform(operation)) }
    if operation.lengthBytes > SyncEngine.maximumTransferBytes { return queueLong(operation, slot: slot) }
    return prepare(operation, slot: slot) ? .queued : .busy
  }

  @inline(never)
  private mutating func queueLong(_ operation: IOOperation, slot: Int32) -> QueueStatus {
    switch operation.kind {
    case .read, .write:
      guard prepare(operation, slot: slot) else { return .busy }
      longRequests[slot] = LongRequest(operation: operation)
      return .queued
    case .syncFileRange: return .completed(SyncEngine.perform(operation))
    default: return prepare(operation, slot: slot) ? .queued : .busy
    }
  }

  /// Puts an operation into the submission queue; false when that is full.
  @inline(__always)
  private mutating func prepare(_ operation: IOOperation, slot: Int32) -> Bool {
    let isTransfer = operation.kind == .read || operation.kind == .write
    if polled != nil, isTransfer, operation.isDirect {
      guard let entry = polled!.nextEntry() else { return false }
      fill(entry, operation, slot)
      return true
    }
    guard let entry = loop.nextRequest() else { return false }
    fill(entry, operation, slot)
    return true
  }

  @inline(__always)
  private func fill(_ entry: UnsafeMutablePointer<io_uring_sqe>, _ operation: IOOperation, _ slot: Int32) {
    operations[Int(slot)] = operation
    let file = usesFixedFiles ? operation.fileIndex : operation.fileDescriptor
    let length = UInt32(truncatingIfNeeded: min(operation.lengthBytes, SyncEngine.maximumTransferBytes))
    let offset = UInt64(bitPattern: operation.offsetBytes)
    switch operation.kind {
    case .read:
      if usesFixedBuffers, contains(readArena, operation.buffer) {
        io_uring_prep_read_fixed(entry, file, operation.buffer, length, offset, 1)
      } else {
        io_uring_prep_read(entry, file, operation.buffer, length, offset)
      }
      entry.pointee.rw_flags = operation.flags
    case .write:
      if usesFixedBuffers {
        io_uring_prep_write_fixed(entry, file, operation.buffer, length, offset, 0)
      } else {
        io_uring_prep_write(entry, file, operation.buffer, length, offset)
      }
      entry.pointee.rw_flags = operation.flags
    case .fsync: io_uring_prep_fsync(entry, file, 0)
    case .fdatasync: io_uring_prep_fsync(entry, file, UInt32(IORING_FSYNC_DATASYNC))
    case .syncFileRange: io_uring_prep_sync_file_range(entry, file, length, offset, operation.flags)
    case .truncate: ctrace_uring_prep_ftruncate(entry, file, operation.offsetBytes)
    case .allocate: io_uring_prep_fallocate(entry, file, operation.flags, Int(operation.offsetBytes), operation.lengthBytes)
    case .discard: io_uring_prep_fallocate(entry, file, CTRACE_FALLOC_PUNCH_HOLE, Int(operation.offsetBytes), operation.lengthBytes)
    }
    entry.pointee.user_data = UInt64(UInt32(bitPattern: slot))
    if usesFixedFiles { entry.pointee.flags |= UInt8(1) }  // IOSQE_FIXED_FILE
  }

  private func contains(_ region: UnsafeMutableRawBufferPointer, _ pointer: UnsafeMutableRawPointer?) -> Bool {
    guard let start = region.baseAddress, let pointer else { return false }
    return pointer >= start && pointer < start + region.count
  }

  // MARK: Completions

  @inline(__always)
  public mutating func reap(until deadline: Int64, into completions: UnsafeMutablePointer<IOCompletion>) -> Int {
    if !heldBack.isEmpty || !interrupted.isEmpty { goOn() }
    if polled != nil { return reapPolled(until: deadline, into: completions) }
    let count = loop.wait(until: deadline, into: events, capacity: 1, completions: drained, limit: limit).completions
    return take(count, into: completions, at: 0)
  }

  /// With a ring whose completions are polled for: looks at both, without sleeping.
  @inline(never)
  private mutating func reapPolled(until deadline: Int64, into completions: UnsafeMutablePointer<IOCompletion>) -> Int {
    repeat {
      polled!.poll()
      var count = take(polled!.drain(drained, limit: limit).count, into: completions, at: 0)
      if count < limit {
        let others = loop.wait(until: 0, into: events, capacity: 1, completions: drained, limit: limit - count).completions
        count += take(others, into: completions, at: count)
      }
      if count > 0 { return count }
    } while ctrace_monotonic_ns() < deadline
    return 0
  }

  @inline(__always)
  private mutating func take(_ number: Int, into completions: UnsafeMutablePointer<IOCompletion>, at start: Int) -> Int {
    var count = start
    for i in 0..<number {
      let slot = Int32(truncatingIfNeeded: drained[i].user_data)
      var result = Int64(drained[i].result)
      if result == -Int64(EINTR) || result == -Int64(ECANCELED), offerAgain(slot) { continue }
      if !longRequests.isEmpty, let continued = resume(slot, result) {
        if continued == .min { continue }
        result = continued
      }
      completions[count] = IOCompletion(slot: slot, result: result)
      count += 1
    }
    return count - start
  }

  /// A signal is no result of the operation: it interrupts a wait, or keeps the kernel from making the worker that the request was
  /// for, which cancels it. Nothing here cancels requests.
  @inline(never)
  private mutating func offerAgain(_ slot: Int32) -> Bool {
    guard retries < Self.maximumRetries else { return false }
    retries += 1
    if !prepare(operations[Int(slot)], slot: slot) { interrupted.append(slot) }
    return true
  }

  /// Offers the pieces again that the submission queue did not take.
  @inline(never)
  private mutating func goOn() {
    while let slot = interrupted.last, prepare(operations[Int(slot)], slot: slot) { interrupted.removeLast() }
    while let slot = heldBack.last, let long = longRequests[slot], prepare(long.rest, slot: slot) { heldBack.removeLast() }
  }

  /// Goes on with a request that the kernel cut at its limit: `Int64.min` when the rest is under way, else its whole result; nil
  /// for a request that was not cut.
  @inline(never)
  private mutating func resume(_ slot: Int32, _ result: Int64) -> Int64? {
    guard var long = longRequests[slot] else { return nil }
    if result > 0 {
      long.done += result
      if result == SyncEngine.maximumTransferBytes, long.done < long.operation.lengthBytes {
        longRequests[slot] = long
        if !prepare(long.rest, slot: slot) { heldBack.append(slot) }
        return .min
      }
    }
    longRequests[slot] = nil
    return long.done > 0 ? long.done : result
  }
}
