/// The first 32 bytes of a trace.
public struct Preamble: Hashable, Sendable {
  public var majorVersion = TraceFormat.majorVersion
  public var minorVersion = TraceFormat.minorVersion
  /// Nanoseconds since 1970-01-01 UTC.
  public var createdUnixNanoseconds: Int64

  func encoded() -> [UInt8] {
    var bytes = TraceFormat.magic
    bytes.appendLittleEndian(majorVersion)
    bytes.appendLittleEndian(minorVersion)
    bytes.appendLittleEndian(UInt32(0))
    bytes.appendLittleEndian(createdUnixNanoseconds)
    bytes.appendLittleEndian(UInt32(0))
    let sum = bytes.withUnsafeBytes { Checksum.crc32($0.baseAddress!, count: bytes.count) }
    bytes.appendLittleEndian(sum)
    return bytes
  }

  enum Outcome {
    case valid(Preamble)
    /// The magic is right, the rest fails its checksum.
    case damaged
    case notATrace
  }

  static func decode(_ bytes: [UInt8]) -> Outcome {
    guard bytes.count >= TraceFormat.preambleBytes else {
      return bytes.starts(with: TraceFormat.magic) ? .damaged : .notATrace
    }
    let sum = bytes.withUnsafeBytes { Checksum.crc32($0.baseAddress!, count: 28) }
    guard bytes.littleEndian(28, as: UInt32.self) == sum else {
      return bytes.starts(with: TraceFormat.magic) ? .damaged : .notATrace
    }
    guard bytes.starts(with: TraceFormat.magic), let major = bytes.littleEndian(8, as: UInt16.self),
      let minor = bytes.littleEndian(10, as: UInt16.self), let created = bytes.littleEndian(16, as: Int64.self)
    else { return .notATrace }
    return .valid(Preamble(majorVersion: major, minorVersion: minor, createdUnixNanoseconds: created))
  }
}
