import CTrace
import Glibc

/// What a server sends: taken apart, checked against what was asked, and put where it belongs.
extension NBDEngine {
  /// Takes everything that has arrived.
  mutating func receive(_ completions: UnsafeMutablePointer<IOCompletion>, _ count: inout Int) {
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
}
