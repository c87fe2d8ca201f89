import FoundationEssentials

/// Goes through every block of a trace in the order of the file, without trust in its index: for verification and recovery.
final class TraceBlockWalk {
  /// What an intact block holds.
  enum Content {
    case metadata(TraceMetadata?)
    case files([TraceFile])
    /// Valid during the call.
    case events(UnsafeBufferPointer<TraceEvent>)
    case index([TraceIndexEntry])
    case end((totals: TraceTotals, indexOffset: UInt64, endOffset: UInt64))
    case unknown
  }

  /// One block, or a part of the file that is none.
  struct Block {
    var offset: UInt64
    var header: BlockHeader?
    var content: Content?
    var damage: TraceDamage?
  }

  /// Places of all blocks with a valid header, in the order of the file.
  let entries: [TraceIndexEntry]
  /// Damage of the preamble.
  private(set) var damages: [TraceDamage] = []
  /// The trace's minor version; this library's own when the preamble is damaged.
  let minorVersion: UInt16
  private let holes: [TraceDamage]
  private let file: ReadableFile
  private var decoder = EventBlockDecoder()
  private let events: UnsafeMutablePointer<TraceEvent>

  /// - Throws: when the file can't be read, is no trace, or is of a newer major version.
  init(path: String) throws(TraceError) {
    // The reader's checks of the preamble are the ones that count; its tables are not used.
    let reader = try TraceReader(path: path)
    file = try ReadableFile(path: path)
    let scan = try TraceScanner(file: file).scan(from: reader.preamble == nil ? 0 : UInt64(TraceFormat.preambleBytes))
    if reader.preamble == nil {
      damages.append(TraceDamage(offsetBytes: 0, lengthBytes: UInt64(TraceFormat.preambleBytes), reason: "the preamble is damaged"))
    }
    entries = scan.entries
    minorVersion = reader.preamble?.minorVersion ?? TraceFormat.minorVersion
    let hasPreamble = reader.preamble != nil
    holes = scan.damages.filter { $0.offsetBytes > 0 || hasPreamble }
    events = .allocate(capacity: TraceFormat.maximumBlockEvents)
  }

  deinit { events.deallocate() }

  /// Gives `body` each block and each hole between blocks, in the order of the file.
  func forEach(_ body: (Block) throws(TraceError) -> Void) throws(TraceError) {
    var hole = 0
    for (number, entry) in entries.enumerated() {
      while hole < holes.count, holes[hole].offsetBytes <= entry.offset {
        try body(Block(offset: holes[hole].offsetBytes, damage: holes[hole]))
        hole += 1
      }
      try body(try read(entry, limit: number + 1 < entries.count ? entries[number + 1].offset : file.sizeBytes))
    }
    while hole < holes.count {
      try body(Block(offset: holes[hole].offsetBytes, damage: holes[hole]))
      hole += 1
    }
  }

  private func read(_ entry: TraceIndexEntry, limit: UInt64) throws(TraceError) -> Block {
    guard let header = try TraceScanner(file: file).header(at: entry.offset) else {
      return damaged(entry, "a block's header is damaged", 64)
    }
    let whole = UInt64(TraceFormat.blockHeaderBytes) + UInt64(header.storedBytes)
    guard entry.offset + whole <= limit else { return damaged(entry, "a block is cut off", limit - entry.offset) }
    let bytes = try file.bytes(Int(header.storedBytes), at: entry.offset + UInt64(TraceFormat.blockHeaderBytes))
    let sum = bytes.withUnsafeBytes { $0.baseAddress.map { Checksum.crc32($0, count: bytes.count) } ?? 0 }
    guard bytes.count == Int(header.storedBytes), sum == header.payloadChecksum else {
      return damaged(entry, "\(Self.name(header.type)) is damaged (wrong checksum)", whole)
    }
    guard let content = content(header, bytes) else { return damaged(entry, "\(Self.name(header.type)) does not decode", whole) }
    return Block(offset: entry.offset, header: header, content: content)
  }

  private func content(_ header: BlockHeader, _ bytes: [UInt8]) -> Content? {
    switch BlockType(rawValue: header.type) {
    case .metadata: return .metadata(try? JSONDecoder().decode(TraceMetadata.self, from: Data(bytes)))
    case .files:
      guard Int(header.count) <= bytes.count else { return nil }
      return bytes.withUnsafeBytes { TraceFileCoding.decode($0, count: Int(header.count)) }.map(Content.files)
    case .events: return eventsContent(header, bytes)
    case .index:
      guard bytes.count == Int(header.count) * TraceFormat.indexEntryBytes else { return nil }
      let decoded = (0..<Int(header.count)).compactMap { TraceIndexEntry(bytes, at: $0 * TraceFormat.indexEntryBytes) }
      return decoded.count == Int(header.count) ? .index(decoded) : nil
    case .end: return TraceTotals.decode(bytes).map(Content.end)
    case nil: return .unknown
    }
  }

  private func eventsContent(_ header: BlockHeader, _ bytes: [UInt8]) -> Content? {
    let count = Int(header.count)
    let whole = bytes.withUnsafeBytes { buffer -> Bool in
      guard let base = buffer.baseAddress, decoder.open(header, payload: base, count: bytes.count) == nil else { return false }
      return decoder.read(into: events, limit: count) == count
    }
    return whole ? .events(UnsafeBufferPointer(start: events, count: count)) : nil
  }

  private func damaged(_ entry: TraceIndexEntry, _ reason: String, _ lengthBytes: UInt64) -> Block {
    var damage = TraceDamage(offsetBytes: entry.offset, lengthBytes: lengthBytes, reason: reason)
    if entry.type == BlockType.events.rawValue {
      damage.lostEvents = entry.firstEvent..<entry.firstEvent + UInt64(entry.count)
      if entry.firstTimeNanoseconds <= entry.lastTimeNanoseconds {
        damage.timeNanoseconds = entry.firstTimeNanoseconds...entry.lastTimeNanoseconds
      }
    }
    return Block(offset: entry.offset, damage: damage)
  }

  private static func name(_ type: UInt8) -> String {
    switch BlockType(rawValue: type) {
    case .metadata: "a metadata block"
    case .files: "a block of the file table"
    case .events: "a block of events"
    case .index: "the index"
    case .end: "the end block"
    case nil: "a block of unknown type \(type)"
    }
  }
}

extension TraceIndexEntry {
  /// Both name the same block.
  func isSamePlace(as other: TraceIndexEntry) -> Bool {
    offset == other.offset && firstTimeNanoseconds == other.firstTimeNanoseconds && lastTimeNanoseconds == other.lastTimeNanoseconds
      && firstEvent == other.firstEvent && count == other.count && type == other.type
  }
}
