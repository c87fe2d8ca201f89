/// The columns of an events block. The raw values are those of the trace format; readers skip ids that they don't know.
enum EventColumn: UInt8, CaseIterable {
  /// Which optional fields are not known, a bit each of `UnknownFields`; absent when every event knows all of them.
  case unknownFields = 0
  /// Start: difference to the previous event's, the first to the header's first time.
  case start = 1
  case latency = 2
  case operation = 3
  case flags = 4
  /// Index into the block's file dictionary.
  case file = 5
  /// Zigzag of the difference to the end (offset + size) of the previous event of the same file, 0 at first.
  case offset = 6
  case size = 7
  /// Zigzag of the difference to the size, or to 0 where that is not known.
  case result = 8
  /// Index into the block's thread dictionary.
  case thread = 9
  case otherFile = 10
  /// Zigzag of the difference to the previous event's request + 1.
  case request = 11
  /// File ids in order of first appearance in the block, zigzag of the difference to the one before.
  case fileDictionary = 16
  /// Pairs process, thread in order of first appearance, zigzag each.
  case threadDictionary = 17
}

/// Some of the columns, a bit each.
struct EventColumns {
  private var bits: UInt32

  static let all = EventColumns(bits: UInt32.max)
  /// What says which request an event is of, and whether that failed; results are stored as differences to the sizes.
  static let outcomes = EventColumns(.unknownFields, .operation, .request, .latency, .size, .result)

  private init(bits: UInt32) { self.bits = bits }

  init(_ columns: EventColumn...) {
    bits = 0
    for column in columns { insert(column) }
  }

  func with(_ columns: EventColumn...) -> EventColumns {
    var all = self
    for column in columns { all.insert(column) }
    return all
  }

  mutating func insert(_ column: EventColumn) { bits |= 1 << UInt32(column.rawValue) }

  func contains(_ column: EventColumn) -> Bool { bits & 1 << UInt32(column.rawValue) != 0 }
}

/// Bits of the column `unknownFields`.
struct UnknownFields: OptionSet {
  let rawValue: UInt64
  static let latency = UnknownFields(rawValue: 1)
  static let file = UnknownFields(rawValue: 2)
  static let offset = UnknownFields(rawValue: 4)
  static let size = UnknownFields(rawValue: 8)
  static let result = UnknownFields(rawValue: 16)
  static let otherFile = UnknownFields(rawValue: 32)
  static let request = UnknownFields(rawValue: 64)
  static let all = UnknownFields(rawValue: 127)
}

/// How a column's values are stored.
enum ColumnEncoding: UInt8 {
  /// All values are equal; the one value stands for the bytes.
  case constant = 0
  /// Varints of value ÷ scale.
  case plain = 1
  /// The same, deflated (RFC 1951).
  case deflated = 2
}
