/// Finds the blocks of a trace from one end to the other, also of a cut or damaged one.
struct TraceScanner {
  let file: ReadableFile

  struct Result {
    var entries: [TraceIndexEntry] = []
    var headers: [BlockHeader] = []
    var damages: [TraceDamage] = []
  }

  /// The preamble, or what is wrong with it. A file whose magic is damaged is a trace when a block is found near its start.
  func preamble() throws(TraceError) -> Preamble.Outcome {
    let found = Preamble.decode(try file.bytes(TraceFormat.preambleBytes, at: 0))
    guard case .notATrace = found, try search(from: 0, before: Self.preambleSearchBytes) != nil else { return found }
    return .damaged
  }

  private static let preambleSearchBytes: UInt64 = 4096

  /// Hops from header to header; where there is none, searches for the next one. Payloads are read only there, to see
  /// whether the block before the hole is shorter or longer than its header says.
  func scan(from start: UInt64) throws(TraceError) -> Result {
    var result = Result()
    var position = start
    // Every block needs to be examined once at most; hostile headers that overlap don't get more.
    var examinable = file.sizeBytes
    while position < file.sizeBytes {
      if let header = try header(at: position) {
        let end = position + UInt64(TraceFormat.blockHeaderBytes) + UInt64(header.storedBytes)
        if end <= file.sizeBytes {
          result.entries.append(TraceIndexEntry(offset: position, header: header))
          result.headers.append(header)
          position = end
          continue
        }
        // Cut off, or bytes are missing inside and further blocks follow.
        let next = try search(from: position + 1)
        result.damages.append(
          damage(position, next?.offset ?? file.sizeBytes, "a block is cut off", after: result.headers.last, itself: header))
        guard let next else { break }
        position = next.offset
      } else {
        var from = position + 1
        if let last = result.entries.last, let header = result.headers.last, UInt64(header.storedBytes) <= examinable {
          examinable -= UInt64(header.storedBytes)
          if try !isIntact(last.offset, header) { from = last.offset + 1 }
        }
        let next = try search(from: from)
        let reason = next == nil ? "the end is cut off or damaged" : "no valid block here"
        if next.map({ $0.offset > position }) ?? true {
          result.damages.append(
            damage(position, next?.offset ?? file.sizeBytes, reason, after: result.headers.last, before: next?.header))
        }
        guard let next else { break }
        position = next.offset
      }
    }
    return result
  }

  /// The payload of the block at `offset` fits its checksum.
  func isIntact(_ offset: UInt64, _ header: BlockHeader) throws(TraceError) -> Bool {
    let bytes = try file.bytes(Int(header.storedBytes), at: offset + UInt64(TraceFormat.blockHeaderBytes))
    guard bytes.count == Int(header.storedBytes) else { return false }
    return bytes.withUnsafeBytes { $0.baseAddress.map { Checksum.crc32($0, count: bytes.count) } ?? 0 } == header.payloadChecksum
  }

  /// The header at `offset` when it is whole and valid.
  func header(at offset: UInt64) throws(TraceError) -> BlockHeader? {
    let bytes = try file.bytes(TraceFormat.blockHeaderBytes, at: offset)
    guard bytes.count == TraceFormat.blockHeaderBytes else { return nil }
    return bytes.withUnsafeBytes { BlockHeader(at: $0.baseAddress!) }
  }

  private func search(
    from start: UInt64, before limit: UInt64 = UInt64.max
  ) throws(TraceError) -> (offset: UInt64, header: BlockHeader)? {
    var window = 4096
    var position = start
    while position < limit, position + UInt64(TraceFormat.blockHeaderBytes) <= file.sizeBytes {
      let bytes = try file.bytes(Int(min(UInt64(window), limit - position)), at: position)
      let last = bytes.count - TraceFormat.blockHeaderBytes
      guard last >= 0 else { return nil }
      let found = bytes.withUnsafeBytes { buffer -> (Int, BlockHeader)? in
        for i in 0...last where buffer[i] == 0x49 && buffer[i + 1] == 0x4F {
          if let header = BlockHeader(at: buffer.baseAddress! + i) { return (i, header) }
        }
        return nil
      }
      if let found { return (position + UInt64(found.0), found.1) }
      position += UInt64(last + 1)
      window = min(2 * window, 1 << 20)
    }
    return nil
  }

  private func damage(
    _ start: UInt64, _ end: UInt64, _ reason: String, after: BlockHeader?, before: BlockHeader? = nil, itself: BlockHeader? = nil
  ) -> TraceDamage {
    var damage = TraceDamage(offsetBytes: start, lengthBytes: end - start, reason: reason)
    let isEvents = after?.type == BlockType.events.rawValue
    let lower = after.map { $0.firstEvent + (isEvents ? UInt64($0.count) : 0) } ?? 0
    if let itself, itself.type == BlockType.events.rawValue {
      damage.lostEvents = itself.firstEvent..<itself.firstEvent + UInt64(itself.count)
      if itself.firstTimeNanoseconds <= itself.lastTimeNanoseconds {
        damage.timeNanoseconds = itself.firstTimeNanoseconds...itself.lastTimeNanoseconds
      }
    } else if let before, before.firstEvent > lower {
      damage.lostEvents = lower..<before.firstEvent
      if isEvents, let after, before.type == BlockType.events.rawValue,
        after.lastTimeNanoseconds <= before.firstTimeNanoseconds
      {
        damage.timeNanoseconds = after.lastTimeNanoseconds...before.firstTimeNanoseconds
      }
    }
    return damage
  }
}
