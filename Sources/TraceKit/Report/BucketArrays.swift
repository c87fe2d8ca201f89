/// The bucket arrays of a report, read ahead of the JSON decoder, which is slow at numbers: a report can hold
/// hundreds of thousands of them. In what is left for the decoder, each array stands as its place among them: `"buckets":[7]`.
struct BucketArrays: Sendable {
  static let key = CodingUserInfoKey(rawValue: "BucketArrays")!
  private(set) var arrays: [[UInt64]] = []
  /// The document with places in place of arrays.
  private(set) var shortened: [UInt8] = []

  /// Nil when an array holds anything but whole numbers: the decoder says then what is wrong.
  init?(_ bytes: [UInt8]) {
    let name = Array("\"buckets\"".utf8)
    shortened.reserveCapacity(1 << 16)
    var (position, copied) = (0, 0)
    while position < bytes.count {
      guard bytes[position] == 0x22 else {
        position += 1
        continue
      }
      let start = position
      position = Self.endOfString(bytes, start)
      guard position - start == name.count, bytes[start..<position].elementsEqual(name),
        let opening = Self.opening(bytes, position)
      else { continue }
      guard let (values, end) = Self.numbers(bytes, opening + 1) else { return nil }
      shortened += bytes[copied...opening]
      shortened += Array(String(arrays.count).utf8)
      arrays.append(values)
      (position, copied) = (end, end)
    }
    shortened += bytes[copied...]
  }

  /// The position behind the string that begins at `start`.
  private static func endOfString(_ bytes: [UInt8], _ start: Int) -> Int {
    var position = start + 1
    while position < bytes.count, bytes[position] != 0x22 { position += bytes[position] == 0x5C ? 2 : 1 }
    return min(bytes.count, position + 1)
  }

  private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 }

  /// The bracket behind a colon, or nil when there is none.
  private static func opening(_ bytes: [UInt8], _ start: Int) -> Int? {
    var position = start
    for wanted in [UInt8(0x3A), 0x5B] {
      while position < bytes.count, isBlank(bytes[position]) { position += 1 }
      guard position < bytes.count, bytes[position] == wanted else { return nil }
      position += 1
    }
    return position - 1
  }

  /// Whole numbers between commas, and the position of the bracket that ends them.
  private static func numbers(_ bytes: [UInt8], _ start: Int) -> (values: [UInt64], end: Int)? {
    var values: [UInt64] = []
    var (value, digits) = (UInt64(0), 0)
    var isEnded = false
    for position in start..<bytes.count {
      let byte = bytes[position]
      switch byte {
      case 0x30...0x39:
        // JSON has no leading zeros, and no blanks inside a number.
        if isEnded || (digits == 1 && value == 0) { return nil }
        let (product, isTooLarge) = value.multipliedReportingOverflow(by: 10)
        let (sum, isOver) = product.addingReportingOverflow(UInt64(byte - 0x30))
        if isTooLarge || isOver { return nil }
        value = sum
        digits += 1
      case 0x2C, 0x5D:
        if digits == 0 { return byte == 0x5D && values.isEmpty ? (values, position) : nil }
        values.append(value)
        (value, digits, isEnded) = (0, 0, false)
        if byte == 0x5D { return (values, position) }
      default:
        guard isBlank(byte) else { return nil }
        isEnded = digits > 0
      }
    }
    return nil
  }
}
