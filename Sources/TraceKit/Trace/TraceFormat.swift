/// Constants of the trace format, version 1.0; docs/trace-format.md is its specification.
public enum TraceFormat {
  /// First bytes of every trace: a byte that is no ASCII, the name, and line ends that a text transfer would change.
  public static let magic: [UInt8] = [0x89, 0x49, 0x4F, 0x54, 0x0D, 0x0A, 0x1A, 0x0A]
  public static let majorVersion: UInt16 = 1
  public static let minorVersion: UInt16 = 0
  static let preambleBytes = 32
  static let blockHeaderBytes = 64
  /// `IOTB`, little-endian.
  static let blockMagic: UInt32 = 0x4254_4F49
  /// Most events of a block.
  public static let maximumBlockEvents = 65_536
  /// Most events of a trace.
  static let maximumEvents: UInt64 = 1 << 62
  /// Most stored bytes of a block's payload; a longer one is damage.
  static let maximumPayloadBytes = 64 << 20
  /// Most decoded bytes of one column: 10 bytes a value.
  static let maximumColumnBytes = 10 * maximumBlockEvents
  static let endPayloadBytes = 128
  static let indexEntryBytes = 40
}

/// What a block holds. Readers skip types that they don't know.
enum BlockType: UInt8 {
  case metadata = 1
  case files = 2
  case events = 3
  case index = 4
  case end = 5
}
