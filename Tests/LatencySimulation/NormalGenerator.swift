import Glibc

/// Normally distributed numbers from a fixed seed: Marsaglia's polar method over xoshiro256+ (Blackman and Vigna).
struct NormalGenerator {
  private var state: (UInt64, UInt64, UInt64, UInt64)
  private var spare: Double?

  init(seed: UInt64) {
    // SplitMix64, as its authors advise for seeding.
    var word = seed
    func next() -> UInt64 {
      word &+= 0x9E37_79B9_7F4A_7C15
      var z = word
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      return z ^ (z >> 31)
    }
    state = (next(), next(), next(), next())
  }

  /// Evenly distributed in −1…1.
  private mutating func uniform() -> Double {
    let result = state.0 &+ state.3
    let shifted = state.1 << 17
    state.2 ^= state.0
    state.3 ^= state.1
    state.1 ^= state.2
    state.0 ^= state.3
    state.2 ^= shifted
    state.3 = state.3 << 45 | state.3 >> 19
    return Double(Int64(bitPattern: result) >> 11) * 0x1p-52
  }

  mutating func next() -> Double {
    if let value = spare {
      spare = nil
      return value
    }
    while true {
      let (x, y) = (uniform(), uniform())
      let square = x * x + y * y
      guard square < 1, square > 0 else { continue }
      let scale = sqrt(-2 * log(square) / square)
      spare = y * scale
      return x * scale
    }
  }
}
