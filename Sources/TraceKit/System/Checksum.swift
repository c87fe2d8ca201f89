import CTrace

/// CRC-32 as in zlib and IEEE 802.3.
enum Checksum {
  static func crc32(_ bytes: UnsafeRawPointer, count: Int) -> UInt32 {
    UInt32(truncatingIfNeeded: CTrace.crc32(0, bytes.assumingMemoryBound(to: UInt8.self), UInt32(count)))
  }
}
