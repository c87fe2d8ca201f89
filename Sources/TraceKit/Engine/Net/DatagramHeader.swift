/// What stands before the data of each datagram: 16 bytes, little-endian: "iot1", kind, 3 zero bytes, sequence number.
///
/// - *data*: one request's bytes follow.
/// - *hello*, *welcome*: the connecting end asks whether somebody is there; the waiting end answers. They make each other known,
///   since a datagram socket has no connection of its own.
/// - *close*: nothing more comes; the tally of what was sent follows. It is repeated until the summary comes.
/// - *summary*: the tally of what was received follows.
struct DatagramHeader {
  enum Kind: UInt8 {
    case data = 1
    case hello, welcome, close, summary
  }

  static let byteCount = 16
  /// "iot1".
  static let magic: UInt32 = 0x3174_6F69
  /// Largest IPv4 datagram (65,507 bytes) without the header.
  static let maximumDataBytes = 65_507 - byteCount

  var kind: Kind
  var sequence: UInt64

  @inline(__always)
  func store(to memory: UnsafeMutableRawPointer) {
    memory.storeLittleEndian(Self.magic, at: 0)
    memory.storeLittleEndian(UInt32(kind.rawValue), at: 4)
    memory.storeLittleEndian(sequence, at: 8)
  }

  init(kind: Kind, sequence: UInt64) {
    self.kind = kind
    self.sequence = sequence
  }

  @inline(__always)
  init?(_ memory: UnsafeRawPointer) {
    guard memory.littleEndian(0, as: UInt32.self) == Self.magic,
      let kind = Kind(rawValue: UInt8(truncatingIfNeeded: memory.littleEndian(4, as: UInt32.self)))
    else { return nil }
    self.init(kind: kind, sequence: memory.littleEndian(8, as: UInt64.self))
  }
}

/// Datagrams that one end sent or received: number, bytes of data, and a digest that does not depend on their order, the sum of
/// the XXH3-64 of each with its sequence number as the seed.
struct DatagramTally: Equatable {
  static let byteCount = 32
  var datagrams: UInt64 = 0
  var bytes: UInt64 = 0
  var digest: UInt64 = 0
  var hasDigest = true

  func store(to memory: UnsafeMutableRawPointer) {
    memory.storeLittleEndian(datagrams, at: 0)
    memory.storeLittleEndian(bytes, at: 8)
    memory.storeLittleEndian(digest, at: 16)
    memory.storeLittleEndian(UInt64(hasDigest ? 1 : 0), at: 24)
  }

  init(hasDigest: Bool) { self.hasDigest = hasDigest }

  init(_ memory: UnsafeRawPointer) {
    datagrams = memory.littleEndian(0, as: UInt64.self)
    bytes = memory.littleEndian(8, as: UInt64.self)
    digest = memory.littleEndian(16, as: UInt64.self)
    hasDigest = memory.littleEndian(24, as: UInt64.self) & 1 != 0
  }
}
