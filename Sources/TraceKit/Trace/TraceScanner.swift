/// Finds the blocks of a trace from one end to the other, also of a cut or damaged one.
struct TraceScanner {
  let file: ReadableFile

  struct Result {
    var entries: [TraceIndexEntry] = []
    var headers: [BlockHeader] = []
    var damages: [TraceDamage] = []
  }

  /// Hops from header to header; where there is none, searches for the next one. Payloads are not read.
  func scan(from start: UInt64) throws(TraceError) -> Result {
    var result = Result()
    var position = start
    while position < file.sizeBytes {
      if let header = try header(at: position) {
        let end = position + UInt64(TraceFormat.blockHeaderBytes) + UInt64(header.storedBytes)
        if end > file.sizeBytes {
          result.damages.append(damage(position, file.sizeBytes, "a block is cut off", after: result.headers.last, itself: header))
          break
        }
        result.entries.append(TraceIndexEntry(offset: position, header: header))
        result.headers.append(header)
        position = end
      } else {
        let next = try search(from: position + 1)
        let reason = next == nil ? "the end is cut off or damaged" : "no valid block here"
        result.damages.append(
          damage(position, next?.offset ?? file.sizeBytes, reason, after: result.headers.last, before: next?.header))
        guard let next else { break }
        position = next.offset
      }
    }
    return result
  }

  /// The header at `offset` when it is whole and valid.
  func header(at offset: UInt64) throws(TraceError) -> BlockHeader? {
    let bytes = try file.bytes(TraceFormat.blockHeaderBytes, at: offset)
    guard bytes.count == TraceFormat.blockHeaderBytes else { return nil }
    return bytes.withUnsafeBytes { BlockHeader(at: $0.baseAddress!) }
  }

  private func search(from start: UInt64) throws(TraceError) -> (offset: UInt64, header: BlockHeader)? {
    let window = 1 << 20
    var position = start
    while position + UInt64(TraceFormat.blockHeaderBytes) <= file.sizeBytes {
      let bytes = try file.bytes(window, at: position)
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
