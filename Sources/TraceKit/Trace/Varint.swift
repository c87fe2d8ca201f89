/// LEB128: seven bits a byte, least significant first, the top bit set on all but the last; at most 10 bytes.
enum Varint {
  static func zigzag(_ value: Int64) -> UInt64 { UInt64(bitPattern: (value << 1) ^ (value >> 63)) }
  static func unzigzag(_ value: UInt64) -> Int64 { Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1) }

  /// Writes `value` at `cursor`, where 10 bytes must be free, and moves the cursor behind it.
  @inline(__always)
  static func write(_ value: UInt64, at cursor: inout UnsafeMutablePointer<UInt8>) {
    var rest = value
    while rest >= 0x80 {
      cursor.pointee = UInt8(truncatingIfNeeded: rest) | 0x80
      cursor += 1
      rest >>= 7
    }
    cursor.pointee = UInt8(truncatingIfNeeded: rest)
    cursor += 1
  }

  /// Reads a value and moves the cursor behind it; past `end` it gives 0 and leaves the cursor beyond `end`.
  @inline(__always)
  static func read(at cursor: inout UnsafePointer<UInt8>, end: UnsafePointer<UInt8>) -> UInt64 {
    if cursor < end {
      let first = cursor.pointee
      if first < 0x80 {
        cursor += 1
        return UInt64(first)
      }
    }
    return readLong(at: &cursor, end: end)
  }

  @inline(never)
  private static func readSlow(at cursor: inout UnsafePointer<UInt8>, end: UnsafePointer<UInt8>) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while cursor < end {
      let byte = cursor.pointee
      cursor += 1
      if shift < 64 { value |= UInt64(byte & 0x7F) << shift }
      if byte < 0x80 { return value }
      shift += 7
    }
    cursor = end + 1
    return 0
  }

  @inline(__always)
  private static func readLong(at cursor: inout UnsafePointer<UInt8>, end: UnsafePointer<UInt8>) -> UInt64 {
    guard end - cursor >= 10 else { return readSlow(at: &cursor, end: end) }
    let word = UnsafeRawPointer(cursor).loadUnaligned(as: UInt64.self).littleEndian
    // The lowest byte without its top bit set ends the value.
    let ends = ~word & 0x8080_8080_8080_8080
    guard ends != 0 else { return readSlow(at: &cursor, end: end) }
    let bits = ends.trailingZeroBitCount  // 7, 15, 23, … 63
    cursor += (bits + 1) >> 3
    var value = word & (UInt64.max >> UInt64(63 - bits)) & 0x7F7F_7F7F_7F7F_7F7F
    // Squeeze the gaps out: 7-bit groups to 14, 28 and 56.
    value = (value & 0x007F_007F_007F_007F) | ((value & 0x7F00_7F00_7F00_7F00) >> 1)
    value = (value & 0x0000_3FFF_0000_3FFF) | ((value & 0x3FFF_0000_3FFF_0000) >> 2)
    value = (value & 0x0000_0000_0FFF_FFFF) | ((value & 0x0FFF_FFFF_0000_0000) >> 4)
    return value
  }

  static func append(_ value: UInt64, to bytes: inout [UInt8]) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(truncatingIfNeeded: rest))
  }
}

/// Reads varints and byte strings from a bounded buffer; every failure is nil, never a read beyond the end.
struct BoundedReader {
  private(set) var cursor: UnsafePointer<UInt8>
  let end: UnsafePointer<UInt8>

  init(_ bytes: UnsafeRawPointer, count: Int) {
    cursor = bytes.assumingMemoryBound(to: UInt8.self)
    end = cursor + count
  }

  var remaining: Int { end - cursor }

  mutating func byte() -> UInt8? {
    guard cursor < end else { return nil }
    defer { cursor += 1 }
    return cursor.pointee
  }

  mutating func varint() -> UInt64? {
    let value = Varint.read(at: &cursor, end: end)
    return cursor <= end ? value : nil
  }

  /// A length that must fit into what is left.
  mutating func length() -> Int? {
    guard let value = varint(), value <= UInt64(remaining) else { return nil }
    return Int(value)
  }

  mutating func bytes(_ count: Int) -> UnsafePointer<UInt8>? {
    guard count >= 0, count <= remaining else { return nil }
    defer { cursor += count }
    return cursor
  }
}
