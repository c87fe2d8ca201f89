/// The last events of a recording, encoded as blocks of a trace, in bounded memory. One thread's at a time.
final class FlightWindow {
  /// The names that events of one time refer to; a later time begins with none, so that old names go with their events.
  final class Names {
    private(set) var files: [TraceFile] = []
    private(set) var bytes: UInt64 = 0

    func add(_ file: TraceFile) -> UInt32 {
      files.append(file)
      bytes += UInt64(file.path.count + MemoryLayout<TraceFile>.stride + 32)
      return UInt32(files.count - 1)
    }
  }

  /// Events that follow each other. Never changed.
  final class Block: Sendable {
    let header: BlockHeader
    let payload: [UInt8]
    /// Which `Names` the events refer to.
    let generation: Int
    var bytes: UInt64 { UInt64(payload.count) + 128 }

    init(header: BlockHeader, payload: [UInt8], generation: Int) {
      self.header = header
      self.payload = payload
      self.generation = generation
    }
  }

  /// A copy for another thread.
  struct Snapshot: Sendable {
    var blocks: [Block]
    /// By generation.
    var files: [Int: [TraceFile]]
    /// Events that were dropped to stay within the memory ended here (trace time); nil when there are none.
    var cutNanoseconds: Int64?
  }

  private let lengthNanoseconds: Int64
  private let limitBytes: UInt64
  private var encoder: EventBlockEncoder
  private let events: UnsafeMutablePointer<TraceEvent>
  private var eventCount = 0
  private var blocks: [Block] = []
  private var firstBlock = 0
  private var blockBytes: UInt64 = 0
  private var names: [Int: Names] = [0: Names()]
  private var generation = 0
  private var generationEnd = Int64.min
  private var cutNanoseconds: Int64?

  init(lengthNanoseconds: Int64, limitBytes: UInt64, compressionLevel: Int32) {
    self.lengthNanoseconds = lengthNanoseconds
    self.limitBytes = limitBytes
    encoder = EventBlockEncoder(capacity: TraceFormat.maximumBlockEvents, level: compressionLevel)
    events = .allocate(capacity: TraceFormat.maximumBlockEvents)
  }

  deinit { events.deallocate() }

  var bytes: UInt64 { blockBytes + names.values.reduce(0) { $0 + $1.bytes } }

  func addFile(_ file: TraceFile) -> UInt32 { names[generation]!.add(file) }

  /// Begins with new names when those of now have served for the window's length. True when it did.
  func renewNames(at start: Int64) -> Bool {
    if generationEnd == Int64.min { generationEnd = start &+ lengthNanoseconds }
    guard start >= generationEnd else { return false }
    flush()
    generation += 1
    names[generation] = Names()
    generationEnd = start &+ lengthNanoseconds
    return true
  }

  func append(_ event: TraceEvent) {
    events[eventCount] = event
    eventCount += 1
    if eventCount == TraceFormat.maximumBlockEvents { flush() }
  }

  /// Encodes what is pending, and drops what is too old or too much.
  func flush() {
    guard eventCount > 0 else { return }
    var pending = UnsafeMutableBufferPointer(start: events, count: eventCount)
    var sorted = true
    for i in 1..<max(1, eventCount) where events[i].startNanoseconds < events[i - 1].startNanoseconds { sorted = false }
    if !sorted { pending.sort { $0.startNanoseconds < $1.startNanoseconds } }
    var payload: [UInt8] = []
    encoder.encode(UnsafeBufferPointer(pending), into: &payload)
    var header = BlockHeader(
      type: .events, count: eventCount, rawBytes: encoder.rawBytes, firstTimeNanoseconds: events[0].startNanoseconds,
      lastTimeNanoseconds: events[eventCount - 1].startNanoseconds, firstEvent: 0, sequence: 0, continuesInOrder: true)
    header.storedBytes = UInt32(payload.count)
    // As small as it can be: it stays for long.
    payload = payload.withUnsafeBufferPointer { Array($0) }
    let block = Block(header: header, payload: payload, generation: generation)
    blocks.append(block)
    blockBytes += block.bytes
    eventCount = 0
    trim(before: header.lastTimeNanoseconds &- lengthNanoseconds)
  }

  private func trim(before time: Int64) {
    while firstBlock < blocks.count, blocks[firstBlock].header.lastTimeNanoseconds < time { dropFirst() }
    // The newest block stays, whatever the limit.
    while firstBlock + 1 < blocks.count, bytes > limitBytes {
      cutNanoseconds = max(cutNanoseconds ?? Int64.min, blocks[firstBlock].header.lastTimeNanoseconds)
      dropFirst()
    }
    if firstBlock > 1024, firstBlock * 2 > blocks.count {
      blocks.removeFirst(firstBlock)
      firstBlock = 0
    }
  }

  private func dropFirst() {
    let dropped = blocks[firstBlock]
    blockBytes -= dropped.bytes
    // The place is given up later; its memory now.
    blocks[firstBlock] = Self.nothing
    firstBlock += 1
    let oldest = firstBlock < blocks.count ? blocks[firstBlock].generation : generation
    if oldest > dropped.generation { for old in dropped.generation..<oldest { names[old] = nil } }
  }

  private static let nothing = Block(
    header: BlockHeader(
      type: .events, count: 0, rawBytes: 0, firstTimeNanoseconds: 0, lastTimeNanoseconds: 0, firstEvent: 0, sequence: 0,
      continuesInOrder: true), payload: [], generation: 0)

  /// All that is there now.
  func snapshot() -> Snapshot {
    flush()
    return Snapshot(blocks: Array(blocks[firstBlock...]), files: names.mapValues(\.files), cutNanoseconds: cutNanoseconds)
  }
}
