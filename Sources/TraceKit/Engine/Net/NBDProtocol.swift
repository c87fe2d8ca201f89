/// Numbers of the NBD protocol (doc/proto.md of the NetworkBlockDevice project); all integers are big-endian on the wire.
enum NBDProtocol {
  // Handshake.
  static let initialMagic: UInt64 = 0x4E42_444D_4147_4943  // "NBDMAGIC"
  static let optionMagic: UInt64 = 0x4948_4156_454F_5054  // "IHAVEOPT"
  static let optionReplyMagic: UInt64 = 0x0003_E889_0455_65A9
  static let fixedNewstyle: UInt16 = 1 << 0
  static let noZeroes: UInt16 = 1 << 1

  enum Option: UInt32 {
    case exportName = 1
    case abort = 2
    case go = 7
    case structuredReply = 8
  }

  static let replyAck: UInt32 = 1
  static let replyInformation: UInt32 = 3
  static let replyErrorBit: UInt32 = 1 << 31
  static let informationExport: UInt16 = 0
  static let informationBlockSize: UInt16 = 3

  /// What an error reply to an option means, for people.
  static func optionError(_ type: UInt32) -> String {
    switch type & ~replyErrorBit {
    case 1: "the server does not support it"
    case 2: "the server's policy forbids it"
    case 3: "the server takes it for invalid"
    case 4: "the server's platform does not support it"
    case 5: "the server asks for TLS, which is not supported"
    case 6: "the server has no such export"
    case 7: "the server is shutting down"
    case 8: "the server asks for block sizes to be negotiated"
    case 9: "the server finds it too big"
    default: "error \(type & ~replyErrorBit)"
    }
  }

  // Transmission.
  static let requestMagic: UInt32 = 0x2560_9513
  static let simpleReplyMagic: UInt32 = 0x6744_6698
  static let structuredReplyMagic: UInt32 = 0x668E_33EF
  static let requestBytes = 28
  static let simpleReplyBytes = 16
  static let structuredReplyBytes = 20

  enum Command: UInt16 {
    case read = 0
    case write = 1
    case disconnect = 2
    case flush = 3
    case trim = 4
  }

  static let commandForceUnitAccess: UInt16 = 1 << 0
  static let chunkDone: UInt16 = 1 << 0
  static let chunkNone: UInt16 = 0
  static let chunkData: UInt16 = 1
  static let chunkHole: UInt16 = 2
  static let chunkErrorBit: UInt16 = 1 << 15
  /// Longest message that an error chunk may carry here; the protocol says strings are at most 4096 bytes.
  static let maximumErrorBytes: UInt32 = 4096 + 16

  /// Longest read or write when the server names no limit.
  static let defaultMaximumPayloadBytes: UInt32 = 32 << 20

  /// The errno of an error number on the wire, which are those of Linux; others count as EIO.
  static func errorNumber(_ code: UInt32) -> Int32 {
    switch code {
    case 1, 5, 12, 22, 28, 75, 95, 108: Int32(code)
    default: 5
    }
  }
}

/// Big-endian integers in byte buffers, unaligned.
extension UnsafeRawPointer {
  @inline(__always)
  func bigEndian<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as type: T.Type) -> T {
    T(bigEndian: loadUnaligned(fromByteOffset: offset, as: type))
  }
}

extension UnsafeMutableRawPointer {
  @inline(__always)
  func storeBigEndian<T: FixedWidthInteger & BitwiseCopyable>(_ value: T, at offset: Int) {
    storeBytes(of: value.bigEndian, toByteOffset: offset, as: T.self)
  }
}

extension [UInt8] {
  mutating func appendBigEndian<T: FixedWidthInteger>(_ value: T) {
    Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
  }
}
