/// A choice of some files or threads, all of whose requests are recorded; the same in every recording, since it goes by
/// hashes of paths and thread numbers.
public struct SampleRule: Codable, Hashable, Sendable {
  /// What is chosen from.
  public enum Unit: String, Codable, CaseIterable, Sendable {
    case files, threads
    /// What a newer version wrote.
    case other

    public init(from decoder: any Decoder) throws {
      self = Unit(rawValue: try decoder.singleValueContainer().decode(String.self)) ?? .other
    }
  }
  public var unit: Unit
  /// One of so many, 2 or more.
  public var oneIn: UInt64

  public init(unit: Unit, oneIn: UInt64) {
    self.unit = unit
    self.oneIn = max(1, oneIn)
  }

  enum CodingKeys: String, CodingKey {
    case unit
    case oneIn = "one_in"
  }

  /// `1 of 8 files`.
  public var text: String { "1 of \(oneIn) \(unit.rawValue)" }

  func keeps(path: [UInt8]) -> Bool {
    // FNV-1a.
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in path { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    return keeps(hash)
  }

  func keeps(process: Int32, thread: Int32) -> Bool {
    keeps(UInt64(UInt32(bitPattern: process)) << 32 | UInt64(UInt32(bitPattern: thread)))
  }

  /// The finalizer of SplitMix64 spreads numbers that follow each other.
  private func keeps(_ value: UInt64) -> Bool {
    var hash = value &+ 0x9E37_79B9_7F4A_7C15
    hash = (hash ^ (hash >> 30)) &* 0xBF58_476D_1CE4_E5B9
    hash = (hash ^ (hash >> 27)) &* 0x94D0_49BB_1331_11EB
    return (hash ^ (hash >> 31)) % max(1, oneIn) == 0
  }
}
