import Glibc

/// Contents of writes: a slice of a pool of random bytes, and of as many zeros as were asked for. Which slice follows from seed, file,
/// offset and sequence number, so what was written can be told later without remembering it; filling costs nothing.
final class Payload: @unchecked Sendable {
  /// Small enough for a CPU's own cache: the copying of a write should cost what it costs a program that just made the data.
  private static let poolBytes = 1 << 18
  /// Slices start at multiples of this: what O_DIRECT asks of memory, and vmsplice(2), for which a buffer that begins inside a page
  /// takes one more. The same for all engines, so that what they write is the same.
  private static let alignmentBytes = 4096
  private let pool: UnsafeMutableRawPointer
  private let seed: UInt64
  private let sizeBytes: Int

  /// - Parameters:
  ///   - largestBytes: the longest slice that will be asked for.
  ///   - compressiblePercent: share of each 512 bytes that is zeros.
  init(seed: UInt64, largestBytes: Int, compressiblePercent: Int = 0) {
    self.seed = seed
    let size = Self.poolBytes + largestBytes
    sizeBytes = size
    pool = .allocate(byteCount: size, alignment: 4096)
    var state = seed
    for position in stride(from: 0, to: Self.poolBytes, by: 8) {
      state = Self.mix(state &+ 0x9E37_79B9_7F4A_7C15)
      pool.storeBytes(of: state, toByteOffset: position, as: UInt64.self)
    }
    let zeros = 512 * min(100, max(0, compressiblePercent)) / 100
    if zeros > 0 {
      for block in stride(from: 0, to: Self.poolBytes, by: 512) { memset(pool + block + 512 - zeros, 0, zeros) }
    }
    var filled = Self.poolBytes
    while filled < size {
      let count = min(filled, size - filled)
      memcpy(pool + filled, pool, count)
      filled += count
    }
  }

  deinit { pool.deallocate() }

  /// The pool and its continuation, for engines that register memory.
  var memory: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: pool, count: sizeBytes) }

  /// Memory to write from.
  @inline(__always)
  func slice(file: UInt32, offset: Int64, sequence: UInt64) -> UnsafeMutableRawPointer {
    let hash = Self.mix(seed ^ UInt64(file) << 40 ^ UInt64(bitPattern: offset) ^ sequence &* 0x9E37_79B9_7F4A_7C15)
    return pool + Int(hash >> 40) % (Self.poolBytes / Self.alignmentBytes) * Self.alignmentBytes
  }

  /// The finaliser of SplitMix64.
  private static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
