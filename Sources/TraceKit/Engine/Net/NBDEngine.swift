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

  /// What is under way for one slot.
  private struct Slot: BitwiseCopyable {
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
  private enum Expectation {
    case reply
    /// Bytes of a read's payload; `endsPiece` when its reply ends with them.
    case payload(slot: Int, to: UnsafeMutableRawPointer, remaining: Int, endsPiece: Bool)
  }

  private let descriptor: Int32
  private let address: NetAddress
  private let export: NBDExport
  private let allowsWrites: Bool
  private let timeout: Int64
  private let loop: UnsafeMutablePointer<SocketLoop>
  private let slots: UnsafeMutablePointer<Slot>
  private let slotCount: Int
  private var active = 0
  /// A header of 28 bytes per slot, 32 apart.
  private let headers: UnsafeMutableRawPointer
  /// Slots whose requests are not sent yet: a ring; `sentOfFirst` bytes of the first are.
  private let pending: UnsafeMutablePointer<Int32>
  private var pendingHead = 0
  private var pendingCount = 0
  private var sentOfFirst = 0
  private let pieces: UnsafeMutablePointer<iovec>
  private static let pieceLimit = 128
  private let input: UnsafeMutableRawPointer
  private static let inputBytes = 256 << 10
  private var inputStart = 0
  private var inputEnd = 0
  private var expectation = Expectation.reply
  private var lastProgress: Int64 = 0
  public private(set) var failure: String?
  private var isDead = false

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
  private mutating func begin(_ slot: Int) {
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
      "\(address.text): the server answered nothing for \(DurationText.text(limit)) with \(active) requests in flight; --timeout sets how long to wait"
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
  private mutating func die(_ code: Int32) {
    isDead = true
    guard failure == nil else { return }
    let gone = code == EPIPE || code == ECONNRESET || code == 0
    failure =
      "\(address.text): \(gone ? "the server closed the connection" : String(cString: strerror(code))) with \(active) requests in flight"
  }

  @inline(never)
  private mutating func wrong(_ what: String) {
    isDead = true
    if failure == nil { failure = "\(address.text): the server broke the protocol: \(what)" }
  }

  /// Takes everything that has arrived.
  private mutating func receive(_ completions: UnsafeMutablePointer<IOCompletion>, _ count: inout Int) {
    while !isDead {
      var first = input
      var firstLength = 0
      // A payload goes to where it belongs without a detour, once the buffer is empty.
      if inputStart == inputEnd {
        inputStart = 0
        inputEnd = 0
        if case .payload(_, let to, let remaining, _) = expectation {
          first = to
          firstLength = remaining
        }
      }
      var flags = CTRACE_MSG_DONTWAIT
      let room = Self.inputBytes - inputEnd
      let got =
        firstLength > 0
        ? ctrace_receive_two(descriptor, first, firstLength, input, room, &flags)
        : recv(descriptor, input + inputEnd, room, flags)
      if got <= 0 {
        if got < 0, errno == EINTR { continue }
        if got == 0 || errno != EAGAIN { die(got == 0 ? 0 : errno) }
        return
      }
      lastProgress = ctrace_monotonic_ns()
      let direct = min(got, firstLength)
      inputEnd += got - direct
      if direct > 0 { addPayload(direct, completions, &count) }
      parse(completions, &count)
      // What did not fill the room was all that there is: asking again would only be told so.
      if got < firstLength + room { return }
    }
  }

  /// Bytes of a payload are where they belong.
  @inline(__always)
  private mutating func addPayload(_ bytes: Int, _ completions: UnsafeMutablePointer<IOCompletion>, _ count: inout Int) {
    guard case .payload(let slot, let to, let remaining, let endsPiece) = expectation else { return }
    slots[slot].received += bytes
    if bytes < remaining {
      expectation = .payload(slot: slot, to: to + bytes, remaining: remaining - bytes, endsPiece: endsPiece)
      return
    }
    expectation = .reply
    if endsPiece { finishPiece(slot, completions, &count) }
  }

  /// Goes through the buffer; what is left of an unfinished reply moves to its start.
  private mutating func parse(_ completions: UnsafeMutablePointer<IOCompletion>, _ count: inout Int) {
    while inputStart < inputEnd, !isDead {
      if case .payload(_, let to, let remaining, _) = expectation {
        let bytes = min(remaining, inputEnd - inputStart)
        to.copyMemory(from: input + inputStart, byteCount: bytes)
        inputStart += bytes
        addPayload(bytes, completions, &count)
        continue
      }
      let used = reply(UnsafeRawPointer(input) + inputStart, inputEnd - inputStart, completions, &count)
      if used == 0 { break }
      inputStart += used
    }
    if inputStart == inputEnd {
      inputStart = 0
      inputEnd = 0
    } else if inputStart > 0 {
      memmove(input, input + inputStart, inputEnd - inputStart)
      inputEnd -= inputStart
      inputStart = 0
    }
  }

  /// One reply's head: the bytes that it takes, 0 when it is not there as a whole.
  @inline(__always)
  private mutating func reply(
    _ bytes: UnsafeRawPointer, _ available: Int, _ completions: UnsafeMutablePointer<IOCompletion>, _ count: inout Int
  ) -> Int {
    guard available >= NBDProtocol.simpleReplyBytes else { return 0 }
    let magic = bytes.bigEndian(0, as: UInt32.self)
    if magic == NBDProtocol.simpleReplyMagic { return simpleReply(bytes, completions, &count) }
    guard magic == NBDProtocol.structuredReplyMagic, export.repliesAreStructured else {
      wrong("a reply begins with \(String(magic, radix: 16))")
      return 0
    }
    guard available >= NBDProtocol.structuredReplyBytes else { return 0 }
    return chunk(bytes, available, completions, &count)
  }

  /// The slot of a handle; nil, and the end, when nothing of that handle was asked.
  @inline(__always)
  private mutating func slot(_ handle: UInt64) -> Int? {
    let slot = Int(handle & 0xFFFF_FFFF)
    guard slot < slotCount, slots[slot].isActive, slots[slot].isSent, UInt64(slots[slot].generation) == handle >> 32 else {
      wrong("a reply to a request that was not made")
      return nil
    }
    return slot
  }

  @inline(__always)
  private mutating func simpleReply(
    _ bytes: UnsafeRawPointer, _ completions: UnsafeMutablePointer<IOCompletion>, _ count: inout Int
  ) -> Int {
    guard let slot = slot(bytes.bigEndian(8, as: UInt64.self)) else { return 0 }
    let code = bytes.bigEndian(4, as: UInt32.self)
    let row = slots + slot
    if code != 0 {
      row.pointee.error = NBDProtocol.errorNumber(code)
      finishPiece(slot, completions, &count)
    } else if row.pointee.isRead {
      guard !export.repliesAreStructured else {
        wrong("a simple reply to a read, though structured replies were agreed on")
        return 0
      }
      expectation = .payload(
        slot: slot, to: row.pointee.buffer.unsafelyUnwrapped + row.pointee.done, remaining: row.pointee.piece, endsPiece: true)
    } else {
      finishPiece(slot, completions, &count)
    }
    return NBDProtocol.simpleReplyBytes
  }

  /// A structured reply's chunk.
  private mutating func chunk(
    _ bytes: UnsafeRawPointer, _ available: Int, _ completions: UnsafeMutablePointer<IOCompletion>, _ count: inout Int
  ) -> Int {
    let flags = bytes.bigEndian(4, as: UInt16.self)
    let type = bytes.bigEndian(6, as: UInt16.self)
    let length = bytes.bigEndian(16, as: UInt32.self)
    guard let slot = slot(bytes.bigEndian(8, as: UInt64.self)) else { return 0 }
    let row = slots + slot
    let isLast = flags & NBDProtocol.chunkDone != 0
    let head = NBDProtocol.structuredReplyBytes
    switch type {
    case NBDProtocol.chunkNone:
      guard length == 0, isLast else {
        wrong("an empty chunk that is not empty, or not the last")
        return 0
      }
      finishPiece(slot, completions, &count)
      return head
    case NBDProtocol.chunkData:
      guard available >= head + 8 else { return 0 }
      guard length > 8 else {
        wrong("a data chunk without data")
        return 0
      }
      guard let start = place(row, bytes.bigEndian(head, as: UInt64.self), UInt64(length) - 8) else { return 0 }
      expectation = .payload(
        slot: slot, to: row.pointee.buffer.unsafelyUnwrapped + start, remaining: Int(length) - 8, endsPiece: isLast)
      return head + 8
    case NBDProtocol.chunkHole:
      guard available >= head + 12 else { return 0 }
      let bytesOfHole = UInt64(bytes.bigEndian(head + 8, as: UInt32.self))
      guard length == 12, bytesOfHole > 0, let start = place(row, bytes.bigEndian(head, as: UInt64.self), bytesOfHole) else {
        wrong("a hole of the wrong length")
        return 0
      }
      memset(row.pointee.buffer.unsafelyUnwrapped + start, 0, Int(bytesOfHole))
      row.pointee.received += Int(bytesOfHole)
      if isLast { finishPiece(slot, completions, &count) }
      return head + 12
    default:
      guard type & NBDProtocol.chunkErrorBit != 0 else {
        wrong("a chunk of type \(type)")
        return 0
      }
      guard length >= 6, length <= NBDProtocol.maximumErrorBytes else {
        wrong("an error of \(length) bytes")
        return 0
      }
      guard available >= head + Int(length) else { return 0 }
      row.pointee.error = NBDProtocol.errorNumber(bytes.bigEndian(head, as: UInt32.self))
      if isLast { finishPiece(slot, completions, &count) }
      return head + Int(length)
    }
  }

  /// Where in the operation's buffer a chunk at an offset of the export goes; nil, and the end, when it is none of what was asked.
  private mutating func place(_ row: UnsafeMutablePointer<Slot>, _ offset: UInt64, _ length: UInt64) -> Int? {
    let start = UInt64(row.pointee.offset) &+ UInt64(row.pointee.done)
    guard row.pointee.isRead, offset >= start, length <= UInt64(row.pointee.piece), offset - start <= UInt64(row.pointee.piece) - length,
      row.pointee.received + Int(length) <= row.pointee.piece
    else {
      wrong("data that were not asked for")
      return nil
    }
    return row.pointee.done + Int(offset - start)
  }

  /// The server is done with a piece: the next one, a flush, or the operation's end.
  @inline(__always)
  private mutating func finishPiece(_ slot: Int, _ completions: UnsafeMutablePointer<IOCompletion>, _ count: inout Int) {
    let row = slots + slot
    if row.pointee.isRead, row.pointee.error == 0, row.pointee.received != row.pointee.piece {
      wrong("\(row.pointee.received) of the \(row.pointee.piece) bytes of a read")
      return
    }
    if row.pointee.error == 0 {
      row.pointee.done += row.pointee.piece
      if row.pointee.done < row.pointee.length || row.pointee.flushesAfter {
        continueSlot(slot)
        return
      }
    }
    row.pointee.isActive = false
    active -= 1
    let isTransfer = row.pointee.isRead || row.pointee.buffer != nil
    let result = row.pointee.error != 0 ? -Int64(row.pointee.error) : isTransfer ? Int64(row.pointee.done) : 0
    completions[count] = IOCompletion(slot: Int32(truncatingIfNeeded: slot), result: result)
    count += 1
  }

  @inline(never)
  private mutating func continueSlot(_ slot: Int) {
    let row = slots + slot
    if row.pointee.done == row.pointee.length {
      // What was written is to be durable, and this is how a server without FUA does that.
      row.pointee.flushesAfter = false
      row.pointee.command = NBDProtocol.Command.flush.rawValue
      row.pointee.generation &+= 1
      let done = row.pointee.done
      row.pointee.offset = -Int64(done)
      begin(slot)
      return
    }
    row.pointee.generation &+= 1
    begin(slot)
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
