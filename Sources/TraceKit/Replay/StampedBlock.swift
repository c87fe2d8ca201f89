import Glibc

/// Contents of data that tell who wrote them: each block of 512 bytes of a target begins with a stamp of seed, target, offset and
/// request, and goes on with bytes that follow from it. So what a request wrote is known again without being remembered, and data
/// of an earlier request, of another place or of another run is recognised as such.
struct StampedBlock: Sendable {
  static let bytes = 512
  static let words = bytes / 8
  /// The request of data that were there before the first one.
  static let filling = UInt64.max

  private let seed: UInt64
  /// Words of a block that are not zero.
  private let filledWords: Int

  /// - Parameter compressiblePercent: share of a block that is zeros; the stamp itself stays.
  init(seed: UInt64, compressiblePercent: Int = 0) {
    self.seed = seed
    filledWords = max(2, Self.words * (100 - min(100, max(0, compressiblePercent))) / 100)
  }

  /// The finaliser of SplitMix64.
  @inline(__always)
  private static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// What a stamp is hidden with: it depends on where the block lies.
  @inline(__always)
  private func key(_ target: Int, _ block: UInt64) -> UInt64 { Self.mix(seed &+ Self.mix(UInt64(target) << 44 ^ block &+ 1)) }

  /// Fills a whole block.
  /// - Parameter block: its number in the target.
  @inline(__always)
  func fill(_ memory: UnsafeMutableRawPointer, target: Int, block: UInt64, request: UInt64) {
    let key = key(target, block)
    memory.storeBytes(of: key ^ request, as: UInt64.self)
    let start = Self.mix(key &+ request &* 0x9E37_79B9_7F4A_7C15)
    for word in 1..<filledWords {
      memory.storeBytes(of: Self.mix(start &+ UInt64(word)), toByteOffset: word * 8, as: UInt64.self)
    }
    if filledWords < Self.words { memset(memory + filledWords * 8, 0, (Self.words - filledWords) * 8) }
  }

  /// The request whose stamp a block carries, or nil.
  func request(of memory: UnsafeRawPointer, target: Int, block: UInt64) -> UInt64? {
    let key = key(target, block)
    let request = memory.loadUnaligned(as: UInt64.self) ^ key
    let start = Self.mix(key &+ request &* 0x9E37_79B9_7F4A_7C15)
    return memory.loadUnaligned(fromByteOffset: 8, as: UInt64.self) == Self.mix(start &+ 1) ? request : nil
  }

  /// Fills any range of a target's bytes.
  func fill(_ memory: UnsafeMutableRawPointer, target: Int, offset: Int64, length: Int, request: UInt64) {
    withUnsafeTemporaryAllocation(byteCount: Self.bytes, alignment: 8) { whole in
      let scratch = whole.baseAddress.unsafelyUnwrapped
      var done = 0
      while done < length {
        let position = Int(offset) + done
        let inside = position & (Self.bytes - 1)
        let count = min(Self.bytes - inside, length - done)
        let block = UInt64(position / Self.bytes)
        if count == Self.bytes, Int(bitPattern: memory + done) & 7 == 0 {
          fill(memory + done, target: target, block: block, request: request)
        } else {
          fill(scratch, target: target, block: block, request: request)
          memcpy(memory + done, scratch + inside, count)
        }
        done += count
      }
    }
  }
}
