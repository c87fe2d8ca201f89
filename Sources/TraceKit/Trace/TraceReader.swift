import FoundationEssentials

/// Reads a trace in constant memory, from the start, from an event number or from a time. A cut or damaged trace yields
/// every intact block; `damages` names the rest. Not for several threads at once.
public final class TraceReader {
  public let path: String
  public let preamble: Preamble?
  /// The last intact metadata block, or an empty one.
  public private(set) var metadata = TraceMetadata(source: "unknown")
  /// The file table, complete from the start; row n has id n unless rows are missing.
  public private(set) var files: [TraceFile] = []
  /// What the end block says; nil for a trace that was not closed.
  public private(set) var totals: TraceTotals?
  /// What could not be read so far; blocks are examined as they are read.
  public private(set) var damages: [TraceDamage] = []
  public var sizeBytes: UInt64 { file.sizeBytes }
  /// Events of all blocks that were found.
  public var knownEvents: UInt64 { eventBlocks.reduce(0) { $0 + UInt64($1.count) } }
  /// Earliest start of an event, in nanoseconds since the epoch; nil for a trace without events.
  public var firstTimeNanoseconds: Int64? { eventBlocks.map(\.firstTimeNanoseconds).min() }
  /// Every block continues where the one before ended in time.
  public var isSorted: Bool {
    totals?.sorted ?? zip(eventBlocks, eventBlocks.dropFirst()).allSatisfy { $0.lastTimeNanoseconds <= $1.firstTimeNanoseconds }
  }

  /// A sentence for each thing that was wrong with what was read so far.
  public var warnings: [String] {
    var warnings = damages.map(\.description)
    if totals == nil { warnings.append("the trace was not closed: it has no end block") }
    return warnings.map { "\(PrintableText.escaped(path)): \($0)" }
  }

  /// Fields of other columns are left unknown from the next block on, which saves their decoding.
  var wantedColumns = EventColumns.all

  private let file: ReadableFile
  private var eventBlocks: [TraceIndexEntry] = []
  private var nextBlock = 0
  private var decoder = EventBlockDecoder()
  private var payload: UnsafeMutableRawPointer
  private var payloadCapacity = 1 << 16
  private var eventInBlock: UInt64 = 0

  /// Opens a trace and reads its tables.
  /// - Throws: when the file can't be read, is no trace, or is of a newer major version.
  public init(path: String) throws(TraceError) {
    self.path = path
    file = try ReadableFile(path: path)
    payload = .allocate(byteCount: payloadCapacity, alignment: 8)
    let shown = PrintableText.escaped(path)
    guard file.sizeBytes > 0 else { throw TraceError(.invalidInput, "\(shown): empty, not a trace") }
    switch try TraceScanner(file: file).preamble() {
    case .notATrace:
      throw TraceError(
        .invalidInput, "\(shown): not a trace (it does not begin with a trace's preamble); 'trace-record import' reads other formats")
    case .damaged:
      preamble = nil
      let length = min(UInt64(TraceFormat.preambleBytes), file.sizeBytes)
      damages.append(TraceDamage(offsetBytes: 0, lengthBytes: length, reason: "the preamble is damaged"))
    case .valid(let found):
      guard found.majorVersion == TraceFormat.majorVersion else {
        throw TraceError(
          .unsupported,
          "\(shown): trace format \(found.majorVersion).\(found.minorVersion); this version reads format \(TraceFormat.majorVersion).x only"
        )
      }
      preamble = found
    }
    try loadBlocks()
  }

  deinit { payload.deallocate() }

  // MARK: Tables

  private func loadBlocks() throws(TraceError) {
    var entries: [TraceIndexEntry]
    if damages.isEmpty, let indexed = try readIndex() {
      entries = indexed
    } else {
      totals = nil
      let scanned = try TraceScanner(file: file).scan(from: preamble == nil ? 0 : UInt64(TraceFormat.preambleBytes))
      entries = scanned.entries
      // What is unreadable right after a damaged preamble is one loss with it.
      damages += scanned.damages.filter { $0.offsetBytes > 0 || damages.isEmpty }
      try readEnd(entries)
    }
    for i in entries.indices { entries[i].limit = i + 1 < entries.count ? entries[i + 1].offset : file.sizeBytes }
    eventBlocks = entries.filter { $0.type == BlockType.events.rawValue }
    for entry in entries {
      switch BlockType(rawValue: entry.type) {
      case .metadata: try readMetadata(entry)
      case .files: try readFiles(entry)
      default: break
      }
    }
  }

  /// The index of a closed trace, or nil when it is not whole.
  private func readIndex() throws(TraceError) -> [TraceIndexEntry]? {
    let tail = UInt64(TraceFormat.blockHeaderBytes + TraceFormat.endPayloadBytes)
    guard file.sizeBytes >= UInt64(TraceFormat.preambleBytes) + tail else { return nil }
    let last = try file.bytes(8, at: file.sizeBytes - 8).littleEndian(0, as: UInt64.self) ?? 0
    guard last >= UInt64(TraceFormat.preambleBytes), last <= file.sizeBytes - tail,
      let end = try intactPayload(at: last, type: .end), let decoded = TraceTotals.decode(end.bytes), decoded.endOffset == last,
      decoded.indexOffset >= UInt64(TraceFormat.preambleBytes), decoded.indexOffset < last,
      let index = try intactPayload(at: decoded.indexOffset, type: .index),
      index.bytes.count == Int(index.header.count) * TraceFormat.indexEntryBytes
    else { return nil }
    var entries: [TraceIndexEntry] = []
    entries.reserveCapacity(Int(index.header.count))
    for i in 0..<Int(index.header.count) {
      guard let entry = TraceIndexEntry(index.bytes, at: i * TraceFormat.indexEntryBytes), entry.offset < last,
        entries.last.map({ entry.offset >= $0.offset + UInt64(TraceFormat.blockHeaderBytes) })
          ?? (entry.offset >= UInt64(TraceFormat.preambleBytes))
      else { return nil }
      entries.append(entry)
    }
    totals = decoded.totals
    return entries
  }

  private func readEnd(_ entries: [TraceIndexEntry]) throws(TraceError) {
    guard let last = entries.last, last.type == BlockType.end.rawValue,
      let end = try intactPayload(at: last.offset, type: .end), let decoded = TraceTotals.decode(end.bytes)
    else { return }
    totals = decoded.totals
  }

  private func readMetadata(_ entry: TraceIndexEntry) throws(TraceError) {
    guard let block = try intactPayload(at: entry.offset, type: .metadata, limit: entry.limit) else {
      return damaged(entry, "a metadata block is damaged")
    }
    if let decoded = try? JSONDecoder().decode(TraceMetadata.self, from: Data(block.bytes)) { metadata = decoded }
  }

  private func readFiles(_ entry: TraceIndexEntry) throws(TraceError) {
    guard let block = try intactPayload(at: entry.offset, type: .files, limit: entry.limit) else {
      return damaged(entry, "a block of the file table is damaged")
    }
    // A row takes at least two bytes, so the count is bounded by the payload.
    guard Int(block.header.count) <= block.bytes.count,
      let rows = block.bytes.withUnsafeBytes({ TraceFileCoding.decode($0, count: Int(block.header.count)) })
    else { return damaged(entry, "a block of the file table does not decode") }
    for row in rows {
      // Rows are numbered in order; damage may leave a hole, which nameless rows fill. A row takes at least 4 bytes, which
      // bounds the numbers that a file of this size can have used.
      guard Int(row.id) >= files.count, UInt64(row.id) < file.sizeBytes / 4 else { continue }
      while files.count < Int(row.id) { files.append(TraceFile(id: UInt32(files.count), path: [])) }
      files.append(row)
    }
  }

  private func damaged(_ entry: TraceIndexEntry, _ reason: String, lengthBytes: UInt64 = UInt64(TraceFormat.blockHeaderBytes)) {
    var damage = TraceDamage(offsetBytes: entry.offset, lengthBytes: lengthBytes, reason: reason)
    if entry.type == BlockType.events.rawValue {
      let (end, overflow) = entry.firstEvent.addingReportingOverflow(UInt64(entry.count))
      if !overflow { damage.lostEvents = entry.firstEvent..<end }
      if entry.firstTimeNanoseconds <= entry.lastTimeNanoseconds {
        damage.timeNanoseconds = entry.firstTimeNanoseconds...entry.lastTimeNanoseconds
      }
    }
    // A second pass finds the same again.
    if !damages.contains(damage) { damages.append(damage) }
  }

  /// Header and payload of the block at `offset` when both checksums hold and it is of `type`.
  private func intactPayload(
    at offset: UInt64, type: BlockType, limit: UInt64 = UInt64.max
  ) throws(TraceError) -> (header: BlockHeader, bytes: [UInt8])? {
    guard let header = try TraceScanner(file: file).header(at: offset), header.type == type.rawValue,
      offset + UInt64(TraceFormat.blockHeaderBytes) + UInt64(header.storedBytes) <= limit
    else { return nil }
    let bytes = try file.bytes(Int(header.storedBytes), at: offset + UInt64(TraceFormat.blockHeaderBytes))
    guard bytes.count == Int(header.storedBytes) else { return nil }
    let sum = bytes.withUnsafeBytes { $0.baseAddress.map { Checksum.crc32($0, count: bytes.count) } ?? 0 }
    return sum == header.payloadChecksum ? (header, bytes) : nil
  }

  // MARK: Events

  /// The next events, up to the batch's capacity, in the order of the file.
  /// - Returns: false at the end; the batch is empty then.
  public func next(into batch: EventBatch) throws(TraceError) -> Bool {
    batch.count = 0
    while true {
      while decoder.remaining == 0 {
        guard nextBlock < eventBlocks.count else { return false }
        nextBlock += 1
        try openBlock(eventBlocks[nextBlock - 1])
      }
      if let count = decoder.read(into: batch.events, limit: batch.capacity) {
        batch.count = count
        batch.firstEvent = eventInBlock
        eventInBlock += UInt64(count)
        return true
      }
      damaged(eventBlocks[nextBlock - 1], "a block of events is inconsistent")
    }
  }

  /// Reads a block's payload; a damaged one is noted and leaves the decoder empty.
  private func openBlock(_ entry: TraceIndexEntry) throws(TraceError) {
    eventInBlock = entry.firstEvent
    guard let header = try TraceScanner(file: file).header(at: entry.offset), header.type == BlockType.events.rawValue,
      header.count == entry.count
    else { return damaged(entry, "a block's header is damaged") }
    let length = Int(header.storedBytes)
    let whole = UInt64(TraceFormat.blockHeaderBytes + length)
    guard entry.offset + whole <= min(file.sizeBytes, entry.limit) else { return damaged(entry, "a block is cut off") }
    if length > payloadCapacity {
      payload.deallocate()
      payloadCapacity = length
      payload = .allocate(byteCount: length, alignment: 8)
    }
    let got = try file.read(length, at: entry.offset + UInt64(TraceFormat.blockHeaderBytes), into: payload)
    guard got == length, Checksum.crc32(payload, count: length) == header.payloadChecksum else {
      return damaged(entry, "a block of events is damaged (wrong checksum)", lengthBytes: whole)
    }
    if let problem = decoder.open(header, payload: payload, count: length, wanted: wantedColumns) {
      damaged(entry, "a block of events is inconsistent: \(problem)", lengthBytes: whole)
    }
  }

  // MARK: Positions

  /// Continues at the first event of the trace.
  public func rewind() throws(TraceError) { try seek(toBlock: 0) }

  private func seek(toBlock block: Int) throws(TraceError) {
    nextBlock = block
    decoder.drop()
  }

  /// Continues at event `number`, or at the first intact one after it. O(log blocks) plus one block.
  public func seek(toEvent number: UInt64) throws(TraceError) {
    try seek(toBlock: partition { $0.firstEvent + UInt64($0.count) > number })
    guard nextBlock < eventBlocks.count, eventBlocks[nextBlock].firstEvent < number else { return }
    try skip { self.eventInBlock < number ? Int(number - self.eventInBlock) : 0 }
  }

  /// Continues at the first block that may hold an event starting at `time` or later (nanoseconds since the epoch); the
  /// caller drops the block's earlier events. O(log blocks).
  public func seek(toTime time: Int64) throws(TraceError) {
    guard isSorted else { return try rewind() }
    try seek(toBlock: partition { $0.lastTimeNanoseconds >= time })
  }

  /// Index of the first block for which `isLater`, which must hold for all that follow.
  private func partition(_ isLater: (TraceIndexEntry) -> Bool) -> Int {
    var (low, high) = (0, eventBlocks.count)
    while low < high {
      let middle = (low + high) / 2
      if isLater(eventBlocks[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }

  /// Opens the next block and drops events while `count` says how many.
  private func skip(_ count: () -> Int) throws(TraceError) {
    nextBlock += 1
    try openBlock(eventBlocks[nextBlock - 1])
    let scratch = EventBatch()
    while decoder.remaining > 0 {
      let wanted = min(count(), scratch.capacity)
      if wanted == 0 { return }
      guard let got = decoder.read(into: scratch.events, limit: wanted), got > 0 else { return }
      eventInBlock += UInt64(got)
    }
  }
}
