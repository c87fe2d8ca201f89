import CTrace
import Glibc

/// A client of NBD servers: several requests in flight on one connection per worker, each measured on its own.
///
/// Requests go out in batches, headers and payloads of many by one call. Replies come in any order; large read payloads are
/// received where they belong, small ones by way of a buffer. All that the server sends is checked against what was asked: a reply
/// to nothing, or of the wrong length, ends the run.
public struct NBDEngine: IOEngine, ~Copyable {
  public static let name = "nbd"
  public static let summary = "a network block device: a client of NBD servers (fixed newstyle, simple and structured replies)"
  public static var isAsynchronous: Bool { true }
  public static var targetKind: EngineTargetKind { .exports }
  public static var capabilities: EngineCapabilities {
    EngineCapabilities(operations: [.read, .write, .fsync, .fdatasync, .discard])
  }

  public static var settings: Set<EngineSetting> { [.iodepth, .eventLoop, .timeout] }

  /// What is under way for one slot.
  struct Slot: BitwiseCopyable {
    var isActive = false
    /// Header and payload are with the kernel: an answer may come.
    var isSent = false
    var isRead = false
    /// A flush follows the last piece of a write that asks for durability, at servers without FUA.
    var flushesAfter = false
    var command: UInt16 = 0
    var flags: UInt16 = 0
    /// Grows with each use; the upper half of the handle, so that a late or repeated reply is recognised.
    var generation: UInt32 = 0
    var error: Int32 = 0
    var buffer: UnsafeMutableRawPointer?
    var offset: Int64 = 0
    var length = 0
    /// Bytes of the pieces that are finished.
    var done = 0
    /// The piece that the server has: its bytes, and how many of a read's have come.
    var piece = 0
    var received = 0
  }

  /// What the next bytes from the server are.
  enum Expectation {
    case reply
    /// Bytes of a read's payload; `endsPiece` when its reply ends with them.
    case payload(slot: Int, to: UnsafeMutableRawPointer, remaining: Int, endsPiece: Bool)
  }

  let descriptor: Int32
  let address: NetAddress
  let export: NBDExport
  private let allowsWrites: Bool
  private let timeout: Int64
  let loop: UnsafeMutablePointer<SocketLoop>
  let slots: UnsafeMutablePointer<Slot>
  let slotCount: Int
  var active = 0
  /// A header of 28 bytes per slot, 32 apart.
  private let headers: UnsafeMutableRawPointer
  /// Slots whose requests are not sent yet: a ring; `sentOfFirst` bytes of the first are.
  private let pending: UnsafeMutablePointer<Int32>
  private var pendingHead = 0
  var pendingCount = 0
  private var sentOfFirst = 0
  private let pieces: UnsafeMutablePointer<iovec>
  private static let pieceLimit = 128
  let input: UnsafeMutableRawPointer
  static let inputBytes = 256 << 10
  var inputStart = 0
  var inputEnd = 0
  var expectation = Expectation.reply
  var lastProgress: Int64 = 0
  public internal(set) var failure: String?
  var isDead = false

  public init(_ configuration: EngineConfiguration) throws(TraceError) {
    guard let connection = configuration.connection, let export = connection.export else {
      throw TraceError(.usage, "--engine nbd needs a --target nbd://host/export")
    }
    let made = try SocketLoop.make(connection.output, configuration.options.eventLoop)
    descriptor = connection.output
    address = connection.address
    self.export = export
    allowsWrites = connection.allowsWrites
    timeout = configuration.options.network.timeoutNanoseconds
    loop = made
    slotCount = configuration.slots
    slots = .allocate(capacity: slotCount)
    slots.initialize(repeating: Slot(), count: slotCount)
    headers = .allocate(byteCount: slotCount * 32, alignment: 8)
    pending = .allocate(capacity: slotCount)
    pieces = .allocate(capacity: Self.pieceLimit)
    input = .allocate(byteCount: Self.inputBytes, alignment: 4096)
  }

  deinit {
    loop.deinitialize(count: 1)
    loop.deallocate()
    slots.deallocate()
    headers.deallocate()
    pending.deallocate()
    pieces.deallocate()
    input.deallocate()
  }

  public var conditions: [String: String] {
    [
      "nbd-export-bytes": String(export.sizeBytes), "nbd-features": export.features,
      "nbd-event-loop": loop.pointee.backendName, "nbd-block-bytes": "\(export.minimumBlockBytes) to \(export.maximumPayloadBytes)",
    ]
  }

  // MARK: Queueing

  @inline(__always)
  public mutating func queue(_ operation: IOOperation, slot: Int32) -> QueueStatus {
    if let code = refusal(of: operation) { return .completed(code) }
    let row = slots + Int(slot)
    row.pointee.isActive = true
    row.pointee.generation &+= 1
    row.pointee.error = 0
    row.pointee.buffer = operation.buffer
    row.pointee.offset = operation.offsetBytes
    row.pointee.length = operation.lengthBytes
    row.pointee.done = 0
    row.pointee.flags = 0
    row.pointee.flushesAfter = false
    row.pointee.isRead = operation.kind == .read
    switch operation.kind {
    case .read: row.pointee.command = NBDProtocol.Command.read.rawValue
    case .write:
      row.pointee.command = NBDProtocol.Command.write.rawValue
      if operation.flags != 0 {
        if export.forcesUnitAccess {
          row.pointee.flags = NBDProtocol.commandForceUnitAccess
        } else {
          row.pointee.flushesAfter = export.flushes
        }
      }
    case .fsync, .fdatasync:
      row.pointee.command = NBDProtocol.Command.flush.rawValue
      row.pointee.offset = 0
      row.pointee.length = 0
    default: row.pointee.command = NBDProtocol.Command.trim.rawValue
    }
    if active == 0 { lastProgress = ctrace_monotonic_ns() }
    active += 1
    begin(Int(slot))
    return .queued
  }

  /// The result of an operation that the server is not asked for, or nil.
  @inline(__always)
  private func refusal(of operation: IOOperation) -> Int64? {
    if isDead { return -Int64(ENOTCONN) }
    switch operation.kind {
    case .read: return operation.lengthBytes == 0 ? 0 : nil
    case .write:
      guard allowsWrites, !export.isReadOnly else { return -Int64(EROFS) }
      return operation.lengthBytes == 0 ? 0 : nil
    case .fsync, .fdatasync: return export.flushes ? nil : -Int64(EOPNOTSUPP)
    case .discard:
      guard allowsWrites, !export.isReadOnly else { return -Int64(EROFS) }
      if operation.lengthBytes == 0 { return 0 }
      return export.trims ? nil : -Int64(EOPNOTSUPP)
    case .truncate, .allocate, .syncFileRange: return -Int64(EOPNOTSUPP)
    }
  }

  /// Puts the next piece of a slot's operation into the line of what is to be sent.
  @inline(__always)
  mutating func begin(_ slot: Int) {
    let row = slots + slot
    let isTransfer = row.pointee.command <= NBDProtocol.Command.write.rawValue
    // The length of a trim has 32 bits.
    let limit =
      isTransfer ? Int(export.maximumPayloadBytes) : Int(UInt32.max) / Int(export.minimumBlockBytes) * Int(export.minimumBlockBytes)
    row.pointee.piece = min(limit, row.pointee.length - row.pointee.done)
    row.pointee.received = 0
    row.pointee.isSent = false
    let header = headers + slot * 32
    header.storeBigEndian(NBDProtocol.requestMagic, at: 0)
    header.storeBigEndian(row.pointee.flags, at: 4)
    header.storeBigEndian(row.pointee.command, at: 6)
    header.storeBigEndian(UInt64(row.pointee.generation) << 32 | UInt64(UInt32(truncatingIfNeeded: slot)), at: 8)
    header.storeBigEndian(row.pointee.offset &+ Int64(row.pointee.done), at: 16)
    header.storeBigEndian(UInt32(truncatingIfNeeded: row.pointee.piece), at: 24)
    pending[(pendingHead + pendingCount) % slotCount] = Int32(truncatingIfNeeded: slot)
    pendingCount += 1
  }

  // MARK: Sending

  public mutating func commit() { flush() }

  /// Sends what is pending, as far as the socket takes it.
  private mutating func flush() {
    while pendingCount > 0, !isDead {
      let count = gather()
      let sent = ctrace_send_pieces(descriptor, pieces, count, CTRACE_MSG_DONTWAIT | CTRACE_MSG_NOSIGNAL)
      if sent < 0 {
        if errno == EINTR { continue }
        if errno != EAGAIN { die(errno) }
        return
      }
      advance(sent)
    }
  }

  /// Fills `pieces` with the headers and payloads that are next.
  private func gather() -> Int {
    var count = 0
    var skip = sentOfFirst
    var place = 0
    while place < pendingCount, count + 2 <= Self.pieceLimit {
      let slot = Int(pending[(pendingHead + place) % slotCount])
      let row = slots + slot
      if skip < NBDProtocol.requestBytes {
        pieces[count] = iovec(iov_base: headers + slot * 32 + skip, iov_len: NBDProtocol.requestBytes - skip)
        count += 1
        skip = 0
      } else {
        skip -= NBDProtocol.requestBytes
      }
      if row.pointee.command == NBDProtocol.Command.write.rawValue, row.pointee.piece > skip, let buffer = row.pointee.buffer {
        pieces[count] = iovec(iov_base: buffer + row.pointee.done + skip, iov_len: row.pointee.piece - skip)
        count += 1
      }
      skip = 0
      place += 1
    }
    return count
  }

  /// Takes what was sent out of the line.
  private mutating func advance(_ sent: Int) {
    sentOfFirst += sent
    while pendingCount > 0 {
      let row = slots + Int(pending[pendingHead])
      let payload = row.pointee.command == NBDProtocol.Command.write.rawValue ? row.pointee.piece : 0
      let whole = NBDProtocol.requestBytes + payload
      guard sentOfFirst >= whole else { return }
      sentOfFirst -= whole
      row.pointee.isSent = true
      pendingHead = (pendingHead + 1) % slotCount
      pendingCount -= 1
    }
  }

  // MARK: Reaping

  public mutating func reap(until deadline: Int64, into completions: UnsafeMutablePointer<IOCompletion>) -> Int {
    var count = 0
    flush()
    receive(completions, &count)
    while count == 0, active > 0, deadline != 0, !isDead {
      if pendingCount > 0 { flush() }
      let now = ctrace_monotonic_ns()
      if now >= deadline { break }
      _ = loop.pointee.wait(pendingCount > 0 ? [.readable, .writable] : .readable, until: deadline)
      receive(completions, &count)
      if count == 0, ctrace_stop_signal() != 0 { break }
    }
    if count == 0, active > 0 { checkSilence() }
    if isDead { abandon(completions, &count) }
    return count
  }

  /// A server that says nothing for too long is given up; sooner after a stop signal.
  private mutating func checkSilence() {
    let limit = ctrace_stop_signal() == 0 ? timeout : min(timeout, 2_000_000_000)
    guard !isDead, ctrace_monotonic_ns() &- lastProgress > limit else { return }
    failure =
      "\(address.text): the server answered nothing for \(DurationText.text(limit)) with \(active) request\(active == 1 ? "" : "s") in flight; --timeout sets how long to wait"
    isDead = true
  }

  /// Completes what is in flight on a dead connection.
  @inline(never)
  private mutating func abandon(_ completions: UnsafeMutablePointer<IOCompletion>, _ count: inout Int) {
    for slot in 0..<slotCount where slots[slot].isActive {
      slots[slot].isActive = false
      completions[count] = IOCompletion(slot: Int32(slot), result: -Int64(ENOTCONN))
      count += 1
    }
    active = 0
    pendingCount = 0
  }

  @inline(never)
  mutating func die(_ code: Int32) {
    isDead = true
    guard failure == nil else { return }
    let gone = code == EPIPE || code == ECONNRESET || code == 0
    failure =
      "\(address.text): \(gone ? "the server closed the connection" : String(cString: strerror(code))) with \(active) request\(active == 1 ? "" : "s") in flight"
  }

  @inline(never)
  mutating func wrong(_ what: String) {
    isDead = true
    if failure == nil { failure = "\(address.text): the server broke the protocol: \(what)" }
  }

  // MARK: The end

  /// Tells the server that the connection ends.
  public mutating func finish() {
    guard !isDead, active == 0 else { return }
    var bytes: [UInt8] = []
    bytes.appendBigEndian(NBDProtocol.requestMagic)
    bytes.appendBigEndian(UInt16(0))
    bytes.appendBigEndian(NBDProtocol.Command.disconnect.rawValue)
    bytes.appendBigEndian(UInt64(0))
    bytes.appendBigEndian(UInt64(0))
    bytes.appendBigEndian(UInt32(0))
    _ = Glibc.send(descriptor, bytes, bytes.count, CTRACE_MSG_DONTWAIT | CTRACE_MSG_NOSIGNAL)
  }
}
