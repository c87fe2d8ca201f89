/// Where a block stands; 40 bytes in the index block.
struct TraceIndexEntry: Hashable, Sendable {
  var offset: UInt64
  var firstTimeNanoseconds: Int64
  var lastTimeNanoseconds: Int64
  var firstEvent: UInt64
  var count: UInt32
  var type: UInt8
  /// Where the next block of the file begins, which this one must not overlap; not stored.
  var limit = UInt64.max

  func append(to bytes: inout [UInt8]) {
    bytes.appendLittleEndian(offset)
    bytes.appendLittleEndian(firstTimeNanoseconds)
    bytes.appendLittleEndian(lastTimeNanoseconds)
    bytes.appendLittleEndian(firstEvent)
    bytes.appendLittleEndian(count)
    bytes += [type, 0, 0, 0]
  }

  init(offset: UInt64, header: BlockHeader) {
    self.offset = offset
    firstTimeNanoseconds = header.firstTimeNanoseconds
    lastTimeNanoseconds = header.lastTimeNanoseconds
    firstEvent = header.firstEvent
    count = header.count
    type = header.type
  }

  init?(_ bytes: [UInt8], at position: Int) {
    guard let offset = bytes.littleEndian(position, as: UInt64.self),
      let first = bytes.littleEndian(position + 8, as: Int64.self), let last = bytes.littleEndian(position + 16, as: Int64.self),
      let event = bytes.littleEndian(position + 24, as: UInt64.self), let count = bytes.littleEndian(position + 32, as: UInt32.self),
      let type = bytes.littleEndian(position + 36, as: UInt8.self)
    else { return nil }
    guard event <= TraceFormat.maximumEvents,
      type != BlockType.events.rawValue || (1...UInt32(TraceFormat.maximumBlockEvents)).contains(count)
    else { return nil }
    self.offset = offset
    firstTimeNanoseconds = first
    lastTimeNanoseconds = last
    firstEvent = event
    self.count = count
    self.type = type
  }
}
