/// The messages by which the two ends of a stream know each other: 40 bytes, little-endian. Data go one way and carry nothing but
/// what the trace wrote; these go the other way, except for the trailer.
///
/// - *hello*: the receiving end sends it when the connection stands, so that the other knows that it may send a trailer.
/// - *trailer*: the sending end's last 40 bytes, after all data and only after a hello: bytes and digest of what it sent.
/// - *summary*: the receiving end's answer to the end of the data: bytes and digest of what it received.
struct StreamMessage: Equatable {
  enum Kind: UInt8 {
    case hello = 1
    case trailer, summary
  }

  static let byteCount = 40
  /// "iotrnet1".
  private static let magic: UInt64 = 0x3174_656E_7274_6F69

  var kind: Kind
  /// Bytes of data so far; in a hello, how many the end wants, 0 when it does not know.
  var dataBytes: UInt64
  /// XXH3-64 of these bytes; 0 where `hasDigest` is false.
  var digest: UInt64 = 0
  var hasDigest = false

  /// The message as it is sent: magic, kind, flags, 6 zero bytes, data bytes, digest, CRC-32 of what precedes, 4 zero bytes.
  var encoded: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Self.byteCount)
    bytes.withUnsafeMutableBytes { buffer in
      let base = buffer.baseAddress!
      base.storeLittleEndian(Self.magic, at: 0)
      base.storeLittleEndian(kind.rawValue, at: 8)
      base.storeLittleEndian(UInt8(hasDigest ? 1 : 0), at: 9)
      base.storeLittleEndian(dataBytes, at: 16)
      base.storeLittleEndian(digest, at: 24)
      base.storeLittleEndian(Checksum.crc32(UnsafeRawPointer(base), count: 32), at: 32)
    }
    return bytes
  }

  init(kind: Kind, dataBytes: UInt64, digest: UInt64 = 0, hasDigest: Bool = false) {
    self.kind = kind
    self.dataBytes = dataBytes
    self.digest = digest
    self.hasDigest = hasDigest
  }

  /// The message in 40 bytes; nil when they are something else.
  init?(_ bytes: UnsafeRawPointer) {
    guard bytes.littleEndian(0, as: UInt64.self) == Self.magic, let kind = Kind(rawValue: bytes.littleEndian(8, as: UInt8.self)),
      bytes.littleEndian(32, as: UInt32.self) == Checksum.crc32(bytes, count: 32)
    else { return nil }
    self.init(
      kind: kind, dataBytes: bytes.littleEndian(16, as: UInt64.self), digest: bytes.littleEndian(24, as: UInt64.self),
      hasDigest: bytes.littleEndian(9, as: UInt8.self) & 1 != 0)
  }
}
