/// The 64 bytes before each block's payload.
struct BlockHeader: Hashable, Sendable {
  var type: UInt8
  /// Events, rows or entries.
  var count: UInt32
  var storedBytes: UInt32
  /// Sum of the decoded lengths of the columns or of the payload.
  var rawBytes: UInt32
  var payloadChecksum: UInt32
  var firstTimeNanoseconds: Int64
  var lastTimeNanoseconds: Int64
  /// Number of the block's first event, or of the next event for blocks without.
  var firstEvent: UInt64
  /// Counted from 0 over all blocks of the file.
  var sequence: UInt64
  /// No event of the block starts before one of an earlier block.
  var continuesInOrder: Bool

  func encode(into bytes: UnsafeMutableRawPointer) {
    bytes.storeLittleEndian(TraceFormat.blockMagic, at: 0)
    bytes.storeLittleEndian(type, at: 4)
    bytes.storeLittleEndian(UInt8(continuesInOrder ? 1 : 0), at: 5)
    bytes.storeLittleEndian(UInt16(0), at: 6)
    bytes.storeLittleEndian(count, at: 8)
    bytes.storeLittleEndian(storedBytes, at: 12)
    bytes.storeLittleEndian(rawBytes, at: 16)
    bytes.storeLittleEndian(payloadChecksum, at: 20)
    bytes.storeLittleEndian(firstTimeNanoseconds, at: 24)
    bytes.storeLittleEndian(lastTimeNanoseconds, at: 32)
    bytes.storeLittleEndian(firstEvent, at: 40)
    bytes.storeLittleEndian(sequence, at: 48)
    bytes.storeLittleEndian(UInt32(0), at: 56)
    bytes.storeLittleEndian(Checksum.crc32(bytes, count: 60), at: 60)
  }

  /// The header at `bytes`, or nil when its magic, checksum or a length is wrong.
  init?(at bytes: UnsafeRawPointer) {
    guard bytes.littleEndian(0, as: UInt32.self) == TraceFormat.blockMagic,
      bytes.littleEndian(60, as: UInt32.self) == Checksum.crc32(bytes, count: 60)
    else { return nil }
    type = bytes.littleEndian(4, as: UInt8.self)
    continuesInOrder = bytes.littleEndian(5, as: UInt8.self) & 1 != 0
    count = bytes.littleEndian(8, as: UInt32.self)
    storedBytes = bytes.littleEndian(12, as: UInt32.self)
    rawBytes = bytes.littleEndian(16, as: UInt32.self)
    payloadChecksum = bytes.littleEndian(20, as: UInt32.self)
    firstTimeNanoseconds = bytes.littleEndian(24, as: Int64.self)
    lastTimeNanoseconds = bytes.littleEndian(32, as: Int64.self)
    firstEvent = bytes.littleEndian(40, as: UInt64.self)
    sequence = bytes.littleEndian(48, as: UInt64.self)
    guard storedBytes <= UInt32(TraceFormat.maximumPayloadBytes), rawBytes <= UInt32(TraceFormat.maximumPayloadBytes) else {
      return nil
    }
    // Keeps every sum of an event number and a count within 64 bits.
    guard firstEvent <= TraceFormat.maximumEvents else { return nil }
    if type == BlockType.events.rawValue, count > UInt32(TraceFormat.maximumBlockEvents) || count == 0 { return nil }
  }

  init(
    type: BlockType, count: Int, rawBytes: Int, firstTimeNanoseconds: Int64, lastTimeNanoseconds: Int64, firstEvent: UInt64,
    sequence: UInt64, continuesInOrder: Bool
  ) {
    self.type = type.rawValue
    self.count = UInt32(count)
    self.storedBytes = 0
    self.rawBytes = UInt32(rawBytes)
    self.payloadChecksum = 0
    self.firstTimeNanoseconds = firstTimeNanoseconds
    self.lastTimeNanoseconds = lastTimeNanoseconds
    self.firstEvent = firstEvent
    self.sequence = sequence
    self.continuesInOrder = continuesInOrder
  }
}
