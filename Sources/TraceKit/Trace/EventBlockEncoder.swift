/// Turns up to 64 Ki events, sorted by start, into the payload of an events block.
struct EventBlockEncoder: ~Copyable {
  private var deflater: Deflater
  private var huffman: Deflater
  /// One column's values before they are stored.
  private let values: UnsafeMutablePointer<UInt64>
  private let masks: UnsafeMutablePointer<UInt8>
  private let plain: UnsafeMutablePointer<UInt8>
  private let packed: UnsafeMutablePointer<UInt8>
  private let fileIndices: UnsafeMutablePointer<UInt32>
  private var fileDictionary: [UInt32] = []
  private var fileLookup: [UInt32: UInt32] = [:]
  private var fileEnds: [UInt64] = []
  private(set) var threadDictionary: [UInt64] = []
  private var threadLookup: [UInt64: UInt32] = [:]
  private(set) var rawBytes = 0

  init(capacity: Int, level: Int32) {
    deflater = Deflater(level: level)
    huffman = Deflater(level: level, huffmanOnly: true)
    values = .allocate(capacity: capacity)
    masks = .allocate(capacity: capacity)
    plain = .allocate(capacity: capacity * 20 + 16)
    packed = .allocate(capacity: capacity * 20 + 1024)
    fileIndices = .allocate(capacity: capacity)
  }

  deinit {
    values.deallocate()
    masks.deallocate()
    plain.deallocate()
    packed.deallocate()
    fileIndices.deallocate()
  }

  /// Appends the payload for `events` (not empty, sorted by start) to `payload`.
  mutating func encode(_ events: UnsafeBufferPointer<TraceEvent>, into payload: inout [UInt8]) {
    rawBytes = 0
    payload.append(0)
    let countPosition = payload.count - 1
    var columns: UInt8 = 0
    func added(_ wasAdded: Bool) { if wasAdded { columns += 1 } }
    let unknown = markUnknown(events)
    let none = unknown.everywhere
    added(appendMasks(events.count, unknown: unknown, to: &payload))
    added(appendStarts(events, to: &payload))
    if !none.contains(.latency) {
      added(appendKnown(events, .latency, .latency, to: &payload) { UInt64(bitPattern: $0.latencyNanoseconds) })
    }
    added(appendEach(events, .operation, to: &payload) { UInt64($0.operation.rawValue) })
    added(appendEach(events, .flags, to: &payload, omitWhenZero: true) { UInt64($0.flags.rawValue) })
    if !none.contains(.file) {
      buildFileDictionary(events)
      added(appendFileDictionary(to: &payload))
      added(appendFileIndices(events.count, to: &payload))
    } else {
      for i in 0..<events.count { fileIndices[i] = 0 }
      fileDictionary.removeAll(keepingCapacity: true)
      fileDictionary.append(0)
    }
    if !none.contains(.offset) { added(appendOffsets(events, to: &payload)) }
    if !none.contains(.size) { added(appendKnown(events, .size, .size, to: &payload) { $0.sizeBytes }) }
    if !none.contains(.result) {
      added(
        appendKnown(events, .result, .result, to: &payload) { event in
          let expected = event.sizeBytes == TraceEvent.unknownSize ? 0 : Int64(bitPattern: event.sizeBytes)
          return Varint.zigzag(event.result &- expected)
        })
    }
    if buildThreadDictionary(events) {
      added(appendThreadDictionary(to: &payload))
      added(store(.thread, count: events.count, signed: false, to: &payload, omitWhenZero: true))
    }
    if !none.contains(.otherFile) { added(appendKnown(events, .otherFile, .otherFile, to: &payload) { UInt64($0.otherFile) }) }
    if !none.contains(.request) { added(appendRequests(events, to: &payload)) }
    payload[countPosition] = columns
  }

  // MARK: Columns

  private func markUnknown(_ events: UnsafeBufferPointer<TraceEvent>) -> (everywhere: UnknownFields, mixed: Bool) {
    var all: UInt8 = 127
    var any: UInt8 = 0
    for i in 0..<events.count {
      var mask: UInt8 = 0
      if events[i].latencyNanoseconds == TraceEvent.unknownLatency { mask |= 1 }
      if events[i].file == TraceEvent.unknownFile { mask |= 2 }
      if events[i].offsetBytes == TraceEvent.unknownOffset { mask |= 4 }
      if events[i].sizeBytes == TraceEvent.unknownSize { mask |= 8 }
      if events[i].result == TraceEvent.unknownResult { mask |= 16 }
      if events[i].otherFile == TraceEvent.unknownFile { mask |= 32 }
      if events[i].request == TraceEvent.unknownRequest { mask |= 64 }
      masks[i] = mask
      all &= mask
      any |= mask
    }
    return (UnknownFields(rawValue: UInt64(all)), any != 0)
  }

  private mutating func appendMasks(
    _ count: Int, unknown: (everywhere: UnknownFields, mixed: Bool), to payload: inout [UInt8]
  ) -> Bool {
    guard unknown.mixed else { return false }
    for i in 0..<count { values[i] = UInt64(masks[i]) }
    return store(.unknownFields, count: count, signed: false, to: &payload)
  }

  private mutating func appendStarts(_ events: UnsafeBufferPointer<TraceEvent>, to payload: inout [UInt8]) -> Bool {
    var previous = events[0].startNanoseconds
    for i in 0..<events.count {
      let start = events[i].startNanoseconds
      values[i] = UInt64(bitPattern: start &- previous)
      previous = start
    }
    return store(.start, count: events.count, signed: false, to: &payload)
  }

  @inline(__always)
  private mutating func appendEach(
    _ events: UnsafeBufferPointer<TraceEvent>, _ column: EventColumn, to payload: inout [UInt8], omitWhenZero: Bool = false,
    _ value: (borrowing TraceEvent) -> UInt64
  ) -> Bool {
    for i in 0..<events.count { values[i] = value(events[i]) }
    return store(column, count: events.count, signed: false, to: &payload, omitWhenZero: omitWhenZero)
  }

  /// The values of those events that know the field.
  @inline(__always)
  private mutating func appendKnown(
    _ events: UnsafeBufferPointer<TraceEvent>, _ column: EventColumn, _ field: UnknownFields, to payload: inout [UInt8],
    _ value: (borrowing TraceEvent) -> UInt64
  ) -> Bool {
    let bit = UInt8(field.rawValue)
    var count = 0
    for i in 0..<events.count where masks[i] & bit == 0 {
      values[count] = value(events[i])
      count += 1
    }
    return store(column, count: count, signed: column == .result, to: &payload)
  }

  private mutating func appendOffsets(_ events: UnsafeBufferPointer<TraceEvent>, to payload: inout [UInt8]) -> Bool {
    fileEnds.removeAll(keepingCapacity: true)
    fileEnds.append(contentsOf: repeatElement(0, count: fileDictionary.count + 1))
    let unknownFileSlot = fileDictionary.count
    var count = 0
    for i in 0..<events.count where masks[i] & 4 == 0 {
      let slot = masks[i] & 2 == 0 ? Int(fileIndices[i]) : unknownFileSlot
      let offset = events[i].offsetBytes
      values[count] = Varint.zigzag(Int64(bitPattern: offset &- fileEnds[slot]))
      count += 1
      fileEnds[slot] = offset &+ (masks[i] & 8 == 0 ? events[i].sizeBytes : 0)
    }
    return store(.offset, count: count, signed: true, to: &payload)
  }

  private mutating func appendRequests(_ events: UnsafeBufferPointer<TraceEvent>, to payload: inout [UInt8]) -> Bool {
    var expected: UInt64 = 0
    var count = 0
    for i in 0..<events.count where masks[i] & 64 == 0 {
      values[count] = Varint.zigzag(Int64(bitPattern: events[i].request &- expected))
      expected = events[i].request &+ 1
      count += 1
    }
    return store(.request, count: count, signed: true, to: &payload)
  }

  // MARK: Dictionaries

  private mutating func buildFileDictionary(_ events: UnsafeBufferPointer<TraceEvent>) {
    fileDictionary.removeAll(keepingCapacity: true)
    fileLookup.removeAll(keepingCapacity: true)
    var lastID = TraceEvent.unknownFile
    var lastIndex: UInt32 = 0
    for i in 0..<events.count where masks[i] & 2 == 0 {
      let id = events[i].file
      if id != lastID {
        if let known = fileLookup[id] {
          lastIndex = known
        } else {
          lastIndex = UInt32(fileDictionary.count)
          fileDictionary.append(id)
          fileLookup[id] = lastIndex
        }
        lastID = id
      }
      fileIndices[i] = lastIndex
    }
  }

  private mutating func appendFileDictionary(to payload: inout [UInt8]) -> Bool {
    var previous: UInt32 = 0
    for (i, id) in fileDictionary.enumerated() {
      values[i] = Varint.zigzag(Int64(id) - Int64(previous))
      previous = id
    }
    return store(.fileDictionary, count: fileDictionary.count, signed: false, to: &payload, isDictionary: true)
  }

  private mutating func appendFileIndices(_ events: Int, to payload: inout [UInt8]) -> Bool {
    var count = 0
    for i in 0..<events where masks[i] & 2 == 0 {
      values[count] = UInt64(fileIndices[i])
      count += 1
    }
    return store(.file, count: count, signed: false, to: &payload, omitWhenZero: true)
  }

  /// Fills `values` with thread indices; false when no event knows its process or thread.
  private mutating func buildThreadDictionary(_ events: UnsafeBufferPointer<TraceEvent>) -> Bool {
    threadDictionary.removeAll(keepingCapacity: true)
    threadLookup.removeAll(keepingCapacity: true)
    var lastKey: UInt64?
    var lastIndex: UInt32 = 0
    for i in 0..<events.count {
      let key = UInt64(UInt32(bitPattern: events[i].processID)) << 32 | UInt64(UInt32(bitPattern: events[i].threadID))
      if key != lastKey {
        if let known = threadLookup[key] {
          lastIndex = known
        } else {
          lastIndex = UInt32(threadDictionary.count)
          threadDictionary.append(key)
          threadLookup[key] = lastIndex
        }
        lastKey = key
      }
      values[i] = UInt64(lastIndex)
    }
    return !(threadDictionary.count == 1 && threadDictionary[0] == UInt64.max)
  }

  private mutating func appendThreadDictionary(to payload: inout [UInt8]) -> Bool {
    var bytes: [UInt8] = []
    for key in threadDictionary {
      Varint.append(Varint.zigzag(Int64(Int32(truncatingIfNeeded: key >> 32))), to: &bytes)
      Varint.append(Varint.zigzag(Int64(Int32(truncatingIfNeeded: key))), to: &bytes)
    }
    payload.append(EventColumn.threadDictionary.rawValue)
    payload.append(ColumnEncoding.plain.rawValue)
    Varint.append(UInt64(threadDictionary.count * 2), to: &payload)
    Varint.append(1, to: &payload)
    Varint.append(UInt64(bytes.count), to: &payload)
    Varint.append(UInt64(bytes.count), to: &payload)
    rawBytes += bytes.count
    payload.append(contentsOf: bytes)
    return true
  }

  // MARK: Storing

  /// Stores `count` of `values` as one column: `id encoding valueCount scale (value | rawLength storedLength bytes)`.
  private mutating func store(
    _ column: EventColumn, count: Int, signed: Bool, to payload: inout [UInt8], omitWhenZero: Bool = false,
    isDictionary: Bool = false
  ) -> Bool {
    let first = count == 0 ? 0 : values[0]
    var same = true
    for i in 0..<count where values[i] != first {
      same = false
      break
    }
    if same, omitWhenZero, first == 0 { return false }
    payload.append(column.rawValue)
    if same, !isDictionary || count == 1 {
      payload.append(ColumnEncoding.constant.rawValue)
      Varint.append(UInt64(count), to: &payload)
      Varint.append(1, to: &payload)
      Varint.append(first, to: &payload)
      return true
    }
    let scale = isDictionary ? 1 : commonScale(count, signed: signed)
    var cursor = plain
    if scale > 1 {
      for i in 0..<count {
        let value = signed ? Varint.zigzag(Varint.unzigzag(values[i]) / Int64(scale)) : values[i] / scale
        Varint.write(value, at: &cursor)
      }
    } else {
      for i in 0..<count { Varint.write(values[i], at: &cursor) }
    }
    let length = cursor - plain
    let stored = compress(length)
    payload.append((stored == nil ? ColumnEncoding.plain : .deflated).rawValue)
    Varint.append(UInt64(count), to: &payload)
    Varint.append(scale, to: &payload)
    Varint.append(UInt64(length), to: &payload)
    Varint.append(UInt64(stored ?? length), to: &payload)
    payload.append(contentsOf: UnsafeBufferPointer(start: stored == nil ? plain : packed, count: stored ?? length))
    rawBytes += length
    return true
  }

  /// Bytes of a column of which a sample is tried both ways.
  private static let sampledBytes = 64 << 10
  private static let sampleBytes = 16 << 10

  /// Deflates `length` bytes of `plain` into `packed`; nil when that saves next to nothing.
  private mutating func compress(_ length: Int) -> Int? {
    let capacity = max(length - length / 64 - 4, 0)
    if length >= Self.sampledBytes, !repeats(length) { return huffman.compress(plain, count: length, into: packed, capacity: capacity) }
    return deflater.compress(plain, count: length, into: packed, capacity: capacity)
  }

  /// Whether the search for repetitions pays, by a sample: in random offsets and in latencies it costs most of the time and
  /// gains nothing.
  private mutating func repeats(_ length: Int) -> Bool {
    let middle = plain + length / 2
    let room = 2 * Self.sampleBytes
    guard let searched = deflater.compress(middle, count: Self.sampleBytes, into: packed, capacity: room),
      let coded = huffman.compress(middle, count: Self.sampleBytes, into: packed, capacity: room)
    else { return true }
    return searched < coded
  }

  /// Largest number that divides every value (or, of zigzag values, every difference): times in microseconds and offsets
  /// in sectors get short this way.
  private func commonScale(_ count: Int, signed: Bool) -> UInt64 {
    var scale: UInt64 = 0
    for i in 0..<count {
      let magnitude = signed ? Varint.unzigzag(values[i]).magnitude : values[i]
      if scale == 0 {
        scale = magnitude
      } else if magnitude % scale != 0 {
        scale = Self.greatestCommonDivisor(scale, magnitude)
        if scale == 1 { return 1 }
      }
      if scale == 1 { return 1 }
    }
    // Int64.min has no positive counterpart to divide by.
    return scale == 0 || scale > UInt64(Int64.max) ? 1 : scale
  }

  private static func greatestCommonDivisor(_ a: UInt64, _ b: UInt64) -> UInt64 {
    var (a, b) = (a, b)
    while b != 0 { (a, b) = (b, a % b) }
    return a
  }
}
