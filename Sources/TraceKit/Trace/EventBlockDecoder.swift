/// Gives back the events of one block, some at a time, so that what is written stays in the CPU's cache.
struct EventBlockDecoder: ~Copyable {
  /// One column of the block at hand.
  private struct Column {
    var present = false
    var constant = false
    var value: UInt64 = 0
    var scale: UInt64 = 1
    var remaining = 0
    var cursor: UnsafePointer<UInt8>
    var end: UnsafePointer<UInt8>

    init(_ nowhere: UnsafePointer<UInt8>) {
      cursor = nowhere
      end = nowhere
    }
  }

  private var inflater = Inflater()
  private var arena: UnsafeMutablePointer<UInt8>
  private var arenaBytes: Int
  private let columns: UnsafeMutablePointer<Column>
  private static let columnSlots = 18
  private let masks: UnsafeMutablePointer<UInt8>
  private static let chunk = 1024
  private var files: [UInt32] = []
  private var fileEnds: [UInt64] = []
  private var threads: [UInt64] = []
  private var fileSlots: UnsafeMutablePointer<UInt32>
  private(set) var remaining = 0
  private var previousStart: Int64 = 0
  private var expectedRequest: UInt64 = 0
  private var broken = false

  init() {
    arenaBytes = 1 << 16
    arena = .allocate(capacity: arenaBytes)
    columns = .allocate(capacity: Self.columnSlots)
    columns.initialize(repeating: Column(arena), count: Self.columnSlots)
    masks = .allocate(capacity: Self.chunk)
    fileSlots = .allocate(capacity: Self.chunk)
  }

  deinit {
    arena.deallocate()
    columns.deallocate()
    masks.deallocate()
    fileSlots.deallocate()
  }

  // MARK: Opening a block

  /// Makes the block's events available; `payload` must stay until they are read. Nil, or what is wrong with it.
  /// - Parameter wanted: fields of other columns are left unknown. Offsets need file and size, results the size.
  mutating func open(_ header: BlockHeader, payload: UnsafeRawPointer, count: Int, wanted: EventColumns = .all) -> String? {
    remaining = 0
    broken = false
    for slot in 0..<Self.columnSlots { columns[slot] = Column(arena) }
    guard let needed = plainBytes(payload, count: count) else { return "a column's description is out of bounds" }
    reserve(needed)
    guard let stored = load(payload, count: count, wanted) else { return "a column does not decode" }
    guard stored.contains(.start), stored.contains(.operation) else { return "the start or operation column is missing" }
    guard loadDictionaries() else { return "a dictionary is out of bounds" }
    previousStart = header.firstTimeNanoseconds
    expectedRequest = 0
    remaining = Int(header.count)
    return nil
  }

  /// Forgets the rest of the block.
  mutating func drop() { remaining = 0 }

  @inline(__always)
  private func column(_ id: EventColumn) -> Column { columns[Int(id.rawValue)] }

  private mutating func reserve(_ bytes: Int) {
    guard bytes > arenaBytes else { return }
    arena.deallocate()
    arenaBytes = bytes
    arena = .allocate(capacity: bytes)
  }

  /// Fields of a column's description: id, encoding, values, scale, then the value or the lengths.
  private struct Description {
    var id: UInt8
    /// Nil for one that this version does not know; it is laid out as `deflated`.
    var encoding: ColumnEncoding?
    var values: Int
    var scale: UInt64
    var value: UInt64 = 0
    var plainLength = 0
    var storedLength = 0
  }

  private static func describe(_ reader: inout BoundedReader) -> Description? {
    guard let id = reader.byte(), let encoding = reader.byte().map(ColumnEncoding.init(rawValue:)), let values = reader.varint(),
      values <= UInt64(2 * TraceFormat.maximumBlockEvents), let scale = reader.varint(), scale >= 1, scale <= UInt64(Int64.max)
    else { return nil }
    var description = Description(id: id, encoding: encoding, values: Int(values), scale: scale)
    if encoding == .constant {
      guard let value = reader.varint() else { return nil }
      description.value = value
      return description
    }
    guard let plain = reader.varint(), plain <= UInt64(2 * TraceFormat.maximumColumnBytes), let stored = reader.length() else { return nil }
    // Deflate expands at most 1,032 times, so a short payload can't ask for much memory.
    if encoding == .deflated, plain > UInt64(stored) * 1_040 + 64 { return nil }
    if encoding == .plain, plain != UInt64(stored) { return nil }
    description.plainLength = Int(plain)
    description.storedLength = stored
    return description
  }

  /// Sum of the columns' decoded lengths, or nil when a description is wrong.
  private func plainBytes(_ payload: UnsafeRawPointer, count: Int) -> Int? {
    var reader = BoundedReader(payload, count: count)
    guard let columnCount = reader.byte() else { return nil }
    var total = 0
    var seen: UInt64 = 0
    for _ in 0..<columnCount {
      guard let description = Self.describe(&reader), reader.bytes(description.storedLength) != nil else { return nil }
      guard let id = EventColumn(rawValue: description.id) else { continue }
      // Each column once: that bounds the memory.
      guard seen & 1 << UInt64(id.rawValue) == 0 else { return nil }
      seen |= 1 << UInt64(id.rawValue)
      if description.encoding == .deflated { total += description.plainLength }
    }
    return total
  }

  /// Makes the wanted columns readable; the columns that there are, or nil when one does not decode.
  private mutating func load(_ payload: UnsafeRawPointer, count: Int, _ wanted: EventColumns) -> EventColumns? {
    var reader = BoundedReader(payload, count: count)
    var found = EventColumns()
    guard let columnCount = reader.byte() else { return nil }
    var free = arena
    for _ in 0..<columnCount {
      guard let description = Self.describe(&reader), let stored = reader.bytes(description.storedLength) else { return nil }
      guard let id = EventColumn(rawValue: description.id) else { continue }
      found.insert(id)
      guard wanted.contains(id) else { continue }
      var loaded = Column(arena)
      loaded.present = true
      loaded.remaining = description.values
      loaded.scale = description.scale
      switch description.encoding {
      case .constant:
        loaded.constant = true
        loaded.value = description.value
      case .plain:
        loaded.cursor = stored
        loaded.end = stored + description.plainLength
      case .deflated:
        guard inflater.expand(stored, count: description.storedLength, into: free, expected: description.plainLength) else { return nil }
        loaded.cursor = UnsafePointer(free)
        loaded.end = UnsafePointer(free + description.plainLength)
        free += description.plainLength
      case nil: return nil
      }
      columns[Int(id.rawValue)] = loaded
    }
    return found
  }

  private mutating func loadDictionaries() -> Bool {
    files.removeAll(keepingCapacity: true)
    threads.removeAll(keepingCapacity: true)
    var id: Int64 = 0
    let fileCount = column(.fileDictionary).remaining
    let threadCount = column(.threadDictionary).remaining
    guard fileCount <= TraceFormat.maximumBlockEvents, threadCount % 2 == 0 else { return false }
    for _ in 0..<fileCount {
      id &+= Varint.unzigzag(next(.fileDictionary))
      guard id >= 0, id <= Int64(UInt32.max) else { return false }
      files.append(UInt32(id))
    }
    for _ in 0..<threadCount / 2 {
      let process = Int32(truncatingIfNeeded: Varint.unzigzag(next(.threadDictionary)))
      let thread = Int32(truncatingIfNeeded: Varint.unzigzag(next(.threadDictionary)))
      threads.append(UInt64(UInt32(bitPattern: process)) << 32 | UInt64(UInt32(bitPattern: thread)))
    }
    if threads.isEmpty { threads.append(UInt64.max) }
    fileEnds.removeAll(keepingCapacity: true)
    fileEnds.append(contentsOf: repeatElement(0, count: files.count + 1))
    return !broken
  }

  /// The next raw value of a column; 0 and `broken` past its end.
  @inline(__always)
  private mutating func next(_ id: EventColumn) -> UInt64 {
    let column = columns + Int(id.rawValue)
    column.pointee.remaining -= 1
    if column.pointee.remaining < 0 {
      broken = true
      return 0
    }
    if column.pointee.constant { return column.pointee.value }
    let value = Varint.read(at: &column.pointee.cursor, end: column.pointee.end)
    if column.pointee.cursor > column.pointee.end { broken = true }
    return value
  }

  // MARK: Reading

  /// Writes up to `limit` events to `output`; their number, or nil when the block turns out to be inconsistent.
  mutating func read(into output: UnsafeMutablePointer<TraceEvent>, limit: Int) -> Int? {
    var done = 0
    while done < limit, remaining > 0 {
      let count = min(Self.chunk, limit - done, remaining)
      readChunk(output + done, count)
      if broken {
        remaining = 0
        return nil
      }
      remaining -= count
      done += count
    }
    return done
  }

  private mutating func readChunk(_ output: UnsafeMutablePointer<TraceEvent>, _ count: Int) {
    let mixed = readMasks(count)
    output.update(repeating: TraceEvent(startNanoseconds: 0, operation: .other), count: count)
    readStarts(output, count)
    readOperations(output, count)
    each(.flags, output, count) { $0.pointee.flags = TraceEventFlags(rawValue: UInt32(truncatingIfNeeded: $1)) }
    readFiles(output, count, mixed)
    known(.latency, .latency, output, count, mixed) { $0.pointee.latencyNanoseconds = Int64(bitPattern: $1) }
    known(.size, .size, output, count, mixed) { $0.pointee.sizeBytes = $1 }
    readOffsets(output, count, mixed)
    readResults(output, count, mixed)
    readThreads(output, count)
    known(.otherFile, .otherFile, output, count, mixed) { $0.pointee.otherFile = UInt32(truncatingIfNeeded: $1) }
    readRequests(output, count)
  }

  /// True when the masks differ within the chunk or any bit is set, so that each event must be looked at.
  private mutating func readMasks(_ count: Int) -> Bool {
    guard column(.unknownFields).present else {
      masks.update(repeating: 0, count: count)
      return false
    }
    var any: UInt8 = 0
    let scale = column(.unknownFields).scale
    for i in 0..<count {
      masks[i] = UInt8(truncatingIfNeeded: next(.unknownFields) &* scale)
      any |= masks[i]
    }
    return any != 0
  }

  /// Calls `body` with each value of a column that has one for every event.
  @inline(__always)
  private mutating func each(
    _ id: EventColumn, _ output: UnsafeMutablePointer<TraceEvent>, _ count: Int,
    _ body: (UnsafeMutablePointer<TraceEvent>, UInt64) -> Void
  ) {
    var column = columns[Int(id.rawValue)]
    guard column.present else { return }
    column.remaining -= count
    if column.remaining < 0 { broken = true }
    if column.constant {
      let value = column.value &* column.scale
      for i in 0..<count { body(output + i, value) }
    } else if column.scale == 1 {
      for i in 0..<count { body(output + i, Varint.read(at: &column.cursor, end: column.end)) }
    } else {
      for i in 0..<count { body(output + i, Varint.read(at: &column.cursor, end: column.end) &* column.scale) }
    }
    if column.cursor > column.end { broken = true }
    columns[Int(id.rawValue)] = column
  }

  /// Calls `body` with each value of a column that has one for the events that know the field.
  @inline(__always)
  private mutating func known(
    _ id: EventColumn, _ field: UnknownFields, _ output: UnsafeMutablePointer<TraceEvent>, _ count: Int, _ mixed: Bool,
    _ body: (UnsafeMutablePointer<TraceEvent>, UInt64) -> Void
  ) {
    guard mixed else { return each(id, output, count, body) }
    var column = columns[Int(id.rawValue)]
    guard column.present else { return }
    let bit = UInt8(field.rawValue)
    for i in 0..<count where masks[i] & bit == 0 {
      column.remaining -= 1
      if column.constant {
        body(output + i, column.value &* column.scale)
      } else {
        body(output + i, Varint.read(at: &column.cursor, end: column.end) &* column.scale)
      }
    }
    if column.remaining < 0 || column.cursor > column.end { broken = true }
    columns[Int(id.rawValue)] = column
  }

  private mutating func readStarts(_ output: UnsafeMutablePointer<TraceEvent>, _ count: Int) {
    var start = previousStart
    each(.start, output, count) { event, difference in
      start = start &+ Int64(bitPattern: difference)
      event.pointee.startNanoseconds = start
    }
    previousStart = start
  }

  private mutating func readOperations(_ output: UnsafeMutablePointer<TraceEvent>, _ count: Int) {
    each(.operation, output, count) { event, value in
      event.pointee.operation = TraceOperation(rawValue: UInt8(truncatingIfNeeded: value)) ?? .other
    }
  }

  /// Leaves each event's dictionary index, which the offsets need, in `fileSlots`.
  private mutating func readFiles(_ output: UnsafeMutablePointer<TraceEvent>, _ count: Int, _ mixed: Bool) {
    let slots = fileSlots
    let unknownSlot = UInt32(files.count)
    slots.update(repeating: unknownSlot, count: count)
    guard !files.isEmpty else { return }
    if !column(.file).present {
      for i in 0..<count where masks[i] & 2 == 0 {
        slots[i] = 0
        output[i].file = files[0]
      }
      return
    }
    var worst: UInt64 = 0
    known(.file, .file, output, count, mixed) { event, index in
      worst = max(worst, index)
      slots[event - output] = UInt32(truncatingIfNeeded: min(index, UInt64(unknownSlot)))
    }
    if worst >= UInt64(files.count) {
      broken = true
      return
    }
    files.withUnsafeBufferPointer { files in
      for i in 0..<count where slots[i] < unknownSlot { output[i].file = files[Int(slots[i])] }
    }
  }

  private mutating func readOffsets(_ output: UnsafeMutablePointer<TraceEvent>, _ count: Int, _ mixed: Bool) {
    let id = Int(EventColumn.offset.rawValue)
    guard columns[id].present else { return }
    var column = columns[id]
    let slots = fileSlots
    let masks = masks
    let scale = Int64(column.scale)
    fileEnds.withUnsafeMutableBufferPointer { ends in
      for i in 0..<count where masks[i] & 4 == 0 {
        column.remaining -= 1
        let raw = column.constant ? column.value : Varint.read(at: &column.cursor, end: column.end)
        let slot = Int(slots[i])
        let offset = ends[slot] &+ UInt64(bitPattern: Varint.unzigzag(raw) &* scale)
        output[i].offsetBytes = offset
        ends[slot] = offset &+ (masks[i] & 8 == 0 ? output[i].sizeBytes : 0)
      }
    }
    if column.remaining < 0 || column.cursor > column.end { broken = true }
    columns[id] = column
  }

  private mutating func readResults(_ output: UnsafeMutablePointer<TraceEvent>, _ count: Int, _ mixed: Bool) {
    // The scale divides the difference itself, not its zigzag form.
    let scale = Int64(column(.result).scale)
    columns[Int(EventColumn.result.rawValue)].scale = 1
    defer { columns[Int(EventColumn.result.rawValue)].scale = UInt64(scale) }
    known(.result, .result, output, count, mixed) { event, value in
      let difference = Varint.unzigzag(value) &* scale
      let expected = event.pointee.sizeBytes == TraceEvent.unknownSize ? 0 : Int64(bitPattern: event.pointee.sizeBytes)
      event.pointee.result = expected &+ difference
    }
  }

  private mutating func readThreads(_ output: UnsafeMutablePointer<TraceEvent>, _ count: Int) {
    guard column(.thread).present else {
      let only = threads[0]
      for i in 0..<count { Self.setThread(output + i, only) }
      return
    }
    let threadCount = UInt64(threads.count)
    var worst: UInt64 = 0
    threads.withUnsafeBufferPointer { threads in
      each(.thread, output, count) { event, index in
        worst = max(worst, index)
        Self.setThread(event, index < threadCount ? threads[Int(index)] : UInt64.max)
      }
    }
    if worst >= threadCount { broken = true }
  }

  @inline(__always)
  private static func setThread(_ event: UnsafeMutablePointer<TraceEvent>, _ pair: UInt64) {
    event.pointee.processID = Int32(truncatingIfNeeded: pair >> 32)
    event.pointee.threadID = Int32(truncatingIfNeeded: pair)
  }

  private mutating func readRequests(_ output: UnsafeMutablePointer<TraceEvent>, _ count: Int) {
    let id = Int(EventColumn.request.rawValue)
    guard columns[id].present else { return }
    let scale = Int64(columns[id].scale)
    for i in 0..<count where masks[i] & 64 == 0 {
      let request = expectedRequest &+ UInt64(bitPattern: Varint.unzigzag(next(.request)) &* scale)
      output[i].request = request
      expectedRequest = request &+ 1
    }
  }
}
