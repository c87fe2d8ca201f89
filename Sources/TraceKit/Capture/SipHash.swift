/// SipHash-2-4 (Aumasson and Bernstein, 2012): a keyed 64-bit hash that can't be inverted or forged without the key.
public struct SipHash: Sendable {
  private let key0: UInt64
  private let key1: UInt64

  public init(key0: UInt64, key1: UInt64) {
    self.key0 = key0
    self.key1 = key1
  }

  public func hash(_ bytes: some Collection<UInt8>) -> UInt64 {
    var state = State(
      v0: key0 ^ 0x736f_6d65_7073_6575, v1: key1 ^ 0x646f_7261_6e64_6f6d, v2: key0 ^ 0x6c79_6765_6e65_7261,
      v3: key1 ^ 0x7465_6462_7974_6573)
    var word: UInt64 = 0
    var filled = 0
    for byte in bytes {
      word |= UInt64(byte) << (8 * UInt64(filled % 8))
      filled += 1
      if filled % 8 == 0 {
        state.absorb(word)
        word = 0
      }
    }
    state.absorb(word | UInt64(truncatingIfNeeded: filled) << 56)
    return state.finish()
  }

  private struct State {
    var v0, v1, v2, v3: UInt64

    mutating func round() {
      v0 &+= v1
      v1 = (v1 << 13 | v1 >> 51) ^ v0
      v0 = v0 << 32 | v0 >> 32
      v2 &+= v3
      v3 = (v3 << 16 | v3 >> 48) ^ v2
      v0 &+= v3
      v3 = (v3 << 21 | v3 >> 43) ^ v0
      v2 &+= v1
      v1 = (v1 << 17 | v1 >> 47) ^ v2
      v2 = v2 << 32 | v2 >> 32
    }

    mutating func absorb(_ word: UInt64) {
      v3 ^= word
      round()
      round()
      v0 ^= word
    }

    mutating func finish() -> UInt64 {
      v2 ^= 0xff
      for _ in 0..<4 { round() }
      return v0 ^ v1 ^ v2 ^ v3
    }
  }
}
