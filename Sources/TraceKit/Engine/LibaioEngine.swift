import CTrace
import Glibc

/// Linux's asynchronous I/O through libaio: requests are submitted in batches (io_submit(2)); their completions are announced on an
/// eventfd in the event loop and taken without waiting (io_getevents(2)). It is taken from once before each wait.
///
/// Reads, writes, fsync and fdatasync are asynchronous; the kernel decides how far (buffered reads and writes are done while they
/// are submitted). What it has no asynchronous call for (truncate, allocate, discard, sync_file_range, and fsync where the filesystem
/// refuses it) is done by its own system call.
public struct LibaioEngine: IOEngine, ~Copyable {
  public static let name = "libaio"
  public static let summary = "Linux AIO: batches by io_submit, completions announced on an eventfd"
  public static var isAsynchronous: Bool { true }

  /// What is known of a request, until its slot is used for another.
  enum RequestState: Equatable {
    /// The slot was not used yet.
    case none
    case inProgress
    /// Cancelled. The kernel may still be at work; the request's completion says ECANCELED, whatever came of it.
    case cancelled
    case failed(errno: Int32)
    case done(bytes: Int64)
  }

  /// A request's row, by slot.
  private struct Row: BitwiseCopyable {
    enum Phase: UInt8, BitwiseCopyable { case none, pending, inKernel, over }
    var phase = Phase.none
    var isCancelled = false
    /// Its completion adds to the eventfd.
    var isAnnounced = false
    /// The kernel cuts it at its limit per call; `operation` is the whole of it.
    var isLong = false
    var kind = IOOperation.Kind.read
    var fileDescriptor: Int32 = -1
    /// Bytes moved by the pieces that are over.
    var moved: Int64 = 0
    /// Bytes, or −errno, when it is over.
    var result: Int64 = 0
  }

  /// How long the kernel may refuse a request for lack of resources while none is in flight that could free some.
  private static let resourcePatienceNanoseconds: Int64 = 5_000_000_000
  /// Reaps that found something at once after which completions are not announced any more.
  private static let quietReaps = 64

  private var context: AIOContext
  private var loop: EventLoop
  private let registration: EventLoop.Registration
  private let announcements: EventDescriptor
  private let idleReleaseNanoseconds: Int64
  private let slots: Int
  private let limit: Int
  private let rows: UnsafeMutablePointer<Row>
  private let blocks: UnsafeMutablePointer<iocb>
  /// The operations of long requests.
  private let operations: UnsafeMutablePointer<IOOperation>
  /// Blocks that were queued and not submitted: a batch, from `pendingStart` on.
  private let pending: UnsafeMutablePointer<UnsafeMutablePointer<iocb>?>
  private var pendingStart = 0
  private var pendingCount = 0
  private var inKernel = 0
  /// Requests in the kernel whose completion is not announced.
  private var unannounced = 0
  /// Completions are announced: a wait may follow. Requests that complete while they are submitted do without.
  private var announces = true
  private var reapsWithoutWait = 0
  /// Slots that are over without the kernel's word, to be delivered.
  private let finished: UnsafeMutablePointer<IOCompletion>
  private var finishedCount = 0
  private let taken: UnsafeMutablePointer<io_event>
  private let events: UnsafeMutablePointer<EventLoop.Event>
  /// When it was first seen without requests, or 0.
  private var idleSince: Int64 = 0
  /// When the kernel first refused for lack of resources with nothing in flight, or 0.
  private var refusedSince: Int64 = 0
  private let backend: String

  public static func unavailability() -> String? { AIOContext.unavailability() }

  public static func refusal(of options: EngineOptions) -> String? {
    if options.submissionPolling { return "--sqpoll: is a feature of the engine io_uring; libaio has none like it" }
    if options.completionPolling { return "--iopoll: is a feature of the engine io_uring; libaio has none like it" }
    if options.fixedBuffers { return "--fixed: is a feature of the engine io_uring; libaio registers no buffers" }
    return nil
  }

  public init(_ configuration: EngineConfiguration) throws(TraceError) { try self.init(configuration, faults: AIOFaults()) }

  init(_ configuration: EngineConfiguration, faults: AIOFaults) throws(TraceError) {
    let announcements = try EventDescriptor()
    var context = AIOContext(requests: configuration.iodepth, faults: faults)
    let code = context.setUp()
    guard code == 0 else {
      throw TraceError(.unsupported, "libaio: a context for \(configuration.iodepth) requests: \(AIOContext.reason(code))")
    }
    var loop = try EventLoop(configuration.options.eventLoop, entries: 8)
    registration = try loop.register(announcements.descriptor, token: 0)
    backend = loop.backendName
    self.announcements = announcements
    self.context = context
    self.loop = loop
    idleReleaseNanoseconds = configuration.options.idleReleaseNanoseconds
    slots = configuration.slots
    limit = configuration.iodepth
    rows = .allocate(capacity: slots)
    rows.initialize(repeating: Row(), count: slots)
    blocks = .allocate(capacity: slots)
    operations = .allocate(capacity: slots)
    pending = .allocate(capacity: slots)
    finished = .allocate(capacity: slots)
    taken = .allocate(capacity: slots)
    events = .allocate(capacity: 1)
  }

  deinit {
    rows.deallocate()
    blocks.deallocate()
    operations.deallocate()
    pending.deallocate()
    finished.deallocate()
    taken.deallocate()
    events.deallocate()
  }

  public var conditions: [String: String] { ["event-loop": backend] }

  /// The kernel context is there; it is not after a time without requests.
  var hasContext: Bool { context.isSetUp }

  // MARK: Submitting

  @inline(__always)
  public mutating func queue(_ operation: IOOperation, slot: Int32) -> QueueStatus {
    switch operation.kind {
    case .read, .write, .fsync, .fdatasync: break
    default: return .completed(SyncEngine.perform(operation))
    }
    guard inKernel &+ pendingCount &+ finishedCount < limit else { return .busy }
    let row = rows + Int(slot)
    row.pointee = Row(kind: operation.kind, fileDescriptor: operation.fileDescriptor)
    if operation.lengthBytes > SyncEngine.maximumTransferBytes {
      row.pointee.isLong = true
      operations[Int(slot)] = operation
    }
    prepare(operation, Int(slot))
    idleSince = 0
    return .queued
  }

  /// Fills in a slot's control block and puts it at the end of the batch.
  @inline(__always)
  private mutating func prepare(_ operation: IOOperation, _ slot: Int) {
    let command: io_iocb_cmd
    switch operation.kind {
    case .read: command = IO_CMD_PREAD
    case .write: command = IO_CMD_PWRITE
    case .fdatasync: command = IO_CMD_FDSYNC
    default: command = IO_CMD_FSYNC
    }
    let isTransfer = operation.kind == .read || operation.kind == .write
    ctrace_aio_prepare(
      blocks + slot, Int32(command.rawValue), operation.fileDescriptor, operation.buffer,
      UInt64(isTransfer ? min(operation.lengthBytes, SyncEngine.maximumTransferBytes) : 0), isTransfer ? operation.offsetBytes : 0,
      isTransfer ? operation.flags : 0, announces ? announcements.descriptor : -1)
    rows[slot].phase = .pending
    rows[slot].isAnnounced = announces
    if pendingStart &+ pendingCount == slots { closeUp() }
    pending[pendingStart &+ pendingCount] = blocks + slot
    pendingCount &+= 1
  }

  /// Moves the batch to the front of its memory.
  @inline(never)
  private mutating func closeUp() {
    for i in 0..<pendingCount { pending[i] = pending[pendingStart + i] }
    pendingStart = 0
  }

  @inline(__always)
  private func slot(of block: UnsafeMutablePointer<iocb>) -> Int { block - blocks }

  @inline(__always)
  public mutating func commit() {
    guard pendingCount > 0 else { return }
    if context.isSetUp {
      let accepted = context.submit(pending + pendingStart, pendingCount)
      if accepted > 0 { noteAccepted(accepted) }
      if accepted == pendingCount || pendingCount == 0 { return }
      if accepted <= 0, !noteRefused(accepted) { return }
    }
    submitRest()
  }

  /// The kernel took the front of the batch.
  @inline(__always)
  private mutating func noteAccepted(_ count: Int) {
    for i in pendingStart..<pendingStart &+ count {
      let row = rows + slot(of: pending[i].unsafelyUnwrapped)
      row.pointee.phase = .inKernel
      if !row.pointee.isAnnounced { unannounced &+= 1 }
    }
    inKernel &+= count
    pendingCount &-= count
    pendingStart = pendingCount == 0 ? 0 : pendingStart &+ count
    refusedSince = 0
  }

  /// Goes on after a part of a batch was taken, or its first request refused, or where the context was released.
  @inline(never)
  private mutating func submitRest() {
    while pendingCount > 0 {
      let code = context.setUp()
      let accepted = code == 0 ? context.submit(pending + pendingStart, pendingCount) : -Int(code)
      if accepted > 0 {
        noteAccepted(accepted)
      } else if !noteRefused(accepted) {
        return
      }
    }
  }

  /// The kernel refused the first request of the batch.
  /// - Returns: false when it may take it later.
  @inline(never)
  private mutating func noteRefused(_ status: Int) -> Bool {
    if status == -Int(EAGAIN) || status == -Int(EINTR) || status == 0 {
      if inKernel > 0 || finishedCount > 0 {
        refusedSince = 0
        return false
      }
      // Nothing that is under way here will free what is lacking; others may.
      let now = ctrace_monotonic_ns()
      if refusedSince == 0 { refusedSince = now }
      if now - refusedSince < Self.resourcePatienceNanoseconds { return false }
      refusedSince = 0
    }
    let slot = slot(of: pending[pendingStart].unsafelyUnwrapped)
    pendingStart += 1
    pendingCount -= 1
    if pendingCount == 0 { pendingStart = 0 }
    let isSync = rows[slot].kind == .fsync || rows[slot].kind == .fdatasync
    if status == -Int(EINVAL) && isSync {
      // A filesystem without an asynchronous fsync.
      let operation = IOOperation(
        kind: rows[slot].kind, isBlockDevice: false, fileDescriptor: rows[slot].fileDescriptor, flags: 0, buffer: nil, offsetBytes: 0,
        lengthBytes: 0)
      finish(slot, SyncEngine.perform(operation), atSubmission: false)
    } else {
      // What the pieces of a long request have moved so far is its result.
      let moved = rows[slot].moved
      finish(slot, moved > 0 ? moved : Int64(status), atSubmission: moved == 0)
    }
    return true
  }

  /// A request is over without the kernel's word.
  private mutating func finish(_ slot: Int, _ result: Int64, atSubmission: Bool) {
    rows[slot].phase = .over
    rows[slot].result = result
    finished[finishedCount] = IOCompletion(slot: Int32(slot), result: result, failedAtSubmission: atSubmission)
    finishedCount += 1
  }

  // MARK: Completions

  @inline(__always)
  public mutating func reap(until deadline: Int64, into completions: UnsafeMutablePointer<IOCompletion>) -> Int {
    if finishedCount == 0, pendingCount == 0 {
      let count = take(context.reap(taken, limit: slots, until: 0), completions, 0)
      if count > 0 {
        if announces { noteQuietReap() }
        return count
      }
      if deadline == 0 { return 0 }
    }
    return reapSlowly(until: deadline, into: completions)
  }

  /// Nobody had to wait: when that goes on, completions need not be announced.
  @inline(__always)
  private mutating func noteQuietReap() {
    reapsWithoutWait &+= 1
    if reapsWithoutWait >= Self.quietReaps { announces = false }
  }

  /// With a batch that is not submitted whole, requests that failed at submission, or after nothing was there.
  @inline(never)
  private mutating func reapSlowly(until deadline: Int64, into completions: UnsafeMutablePointer<IOCompletion>) -> Int {
    while true {
      if pendingCount > 0 { submitRest() }
      var count = 0
      while count < finishedCount {
        completions[count] = finished[count]
        count += 1
      }
      finishedCount = 0
      count += take(context.reap(taken, limit: slots - count, until: 0), completions + count, 0)
      if count > 0 || deadline == 0 { return count }
      count = waitForCompletions(until: deadline, completions)
      // A long request's next piece is no completion; a refused one is tried again.
      if count > 0 || ctrace_stop_signal() != 0 || ctrace_monotonic_ns() >= deadline { return count }
    }
  }

  /// Waits on the eventfd. While requests are under way that were submitted without one, for those themselves.
  private mutating func waitForCompletions(until deadline: Int64, _ completions: UnsafeMutablePointer<IOCompletion>) -> Int {
    announces = true
    reapsWithoutWait = 0
    var deadline = deadline
    // Refused for lack of resources: asked again soon.
    if pendingCount > 0 { deadline = min(deadline, ctrace_monotonic_ns() + 1_000_000) }
    if unannounced > 0 { return take(context.reap(taken, limit: slots, until: deadline), completions, 0) }
    loop.arm(registration, .readable)
    if loop.wait(until: deadline, into: events, capacity: 1) > 0 { announcements.clear() }
    return 0
  }

  /// Makes completions of what the kernel reported; a long request that has more to do goes on instead.
  @inline(__always)
  private mutating func take(_ number: Int, _ completions: UnsafeMutablePointer<IOCompletion>, _ start: Int) -> Int {
    guard number > 0 else { return 0 }
    inKernel &-= number
    var count = 0
    for i in 0..<number {
      let slot = slot(of: taken[i].obj.unsafelyUnwrapped)
      var result = ctrace_aio_result(taken + i)
      let row = rows + slot
      if !row.pointee.isAnnounced { unannounced &-= 1 }
      if row.pointee.isLong || row.pointee.isCancelled {
        guard let whole = conclude(slot, result) else { continue }
        result = whole
      }
      row.pointee.phase = .over
      row.pointee.result = result
      completions[count] = IOCompletion(slot: Int32(truncatingIfNeeded: slot), result: result)
      count &+= 1
    }
    return count
  }

  /// The result of a cancelled or long request; nil when the next piece of it is queued.
  @inline(never)
  private mutating func conclude(_ slot: Int, _ result: Int64) -> Int64? {
    if rows[slot].isCancelled { return -Int64(ECANCELED) }
    if result < 0 { return rows[slot].moved > 0 ? rows[slot].moved : result }
    rows[slot].moved += result
    let whole = operations[slot]
    guard result == SyncEngine.maximumTransferBytes, rows[slot].moved < whole.lengthBytes else { return rows[slot].moved }
    var rest = whole
    rest.offsetBytes += rows[slot].moved
    rest.lengthBytes -= Int(rows[slot].moved)
    rest.buffer = whole.buffer.map { $0 + Int(rows[slot].moved) }
    prepare(rest, slot)
    return nil
  }

  // MARK: Idleness

  /// Releases the kernel context after a time without requests; the next request sets one up again.
  public mutating func idle(now: Int64) {
    guard inKernel == 0, pendingCount == 0, context.isSetUp else { return }
    if idleSince == 0 {
      idleSince = now
    } else if now - idleSince >= idleReleaseNanoseconds {
      context.release()
    }
  }

  // MARK: Single requests

  /// What is known of the request of a slot.
  func state(of slot: Int32) -> RequestState {
    let row = rows[Int(slot)]
    if row.phase == .none { return .none }
    if row.isCancelled { return .cancelled }
    if row.phase != .over { return .inProgress }
    return row.result < 0 ? .failed(errno: Int32(-row.result)) : .done(bytes: row.result)
  }

  /// Cancels a request. One that the kernel has already is finished by it, and what came of it discarded; its completion says
  /// ECANCELED then.
  /// - Returns: false when there was nothing to cancel any more.
  @discardableResult
  mutating func cancel(_ slot: Int32) -> Bool {
    let row = rows + Int(slot)
    guard row.pointee.phase == .pending || row.pointee.phase == .inKernel, !row.pointee.isCancelled else { return false }
    row.pointee.isCancelled = true
    if row.pointee.phase == .pending {
      withdraw(Int(slot))
      finish(Int(slot), -Int64(ECANCELED), atSubmission: false)
    }
    return true
  }

  /// Cancels all requests of a file.
  /// - Returns: how many.
  @discardableResult
  mutating func cancelAll(ofFile descriptor: Int32) -> Int {
    var count = 0
    for slot in 0..<slots where rows[slot].fileDescriptor == descriptor && cancel(Int32(slot)) { count += 1 }
    return count
  }

  /// Takes a request out of the batch that is not submitted yet.
  private mutating func withdraw(_ slot: Int) {
    var kept = 0
    for i in 0..<pendingCount where pending[pendingStart + i] != blocks + slot {
      pending[kept] = pending[pendingStart + i]
      kept += 1
    }
    pendingStart = 0
    pendingCount = kept
  }

  /// Waits until all of a set of requests are over.
  /// - Parameters:
  ///   - awaited: their slots.
  ///   - deadline: CLOCK_MONOTONIC in nanoseconds.
  ///   - completions: room for one per slot of the engine; it gets every completion that arrives, also of other requests.
  /// - Returns: how many completions were written, and 0 or EAGAIN when the deadline passed before.
  mutating func await(
    _ awaited: UnsafeBufferPointer<Int32>, until deadline: Int64, into completions: UnsafeMutablePointer<IOCompletion>
  ) -> (count: Int, code: Int32) {
    var count = 0
    commit()
    while awaited.contains(where: { isUnderWay($0) }) {
      let now = ctrace_monotonic_ns()
      // What is there is taken even when the deadline has passed.
      let more = reap(until: now < deadline ? deadline : 0, into: completions + count)
      count += more
      if more == 0, now >= deadline { return (count, EAGAIN) }
    }
    // Those that were over without the kernel's word are to be delivered still.
    return (count + (finishedCount > 0 ? reap(until: 0, into: completions + count) : 0), 0)
  }

  private func isUnderWay(_ slot: Int32) -> Bool {
    let phase = rows[Int(slot)].phase
    return phase == .pending || phase == .inKernel
  }
}
