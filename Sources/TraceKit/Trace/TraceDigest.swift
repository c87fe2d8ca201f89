/// Identity of the requests of a trace: 128 bits over each event's start, operation, file, offset, size and thread, in
/// order; not over latencies and results. It does not depend on block size or compression. Not cryptographic: it tells
/// traces apart, it does not stop forgery.
public struct TraceDigest: Hashable, Sendable {
  private(set) var low: UInt64 = 0x243F_6A88_85A3_08D3
  private(set) var high: UInt64 = 0x1319_8A2E_0370_7344

  public init() {}

  init(low: UInt64, high: UInt64) {
    self.low = low
    self.high = high
  }

  /// Takes in the next event.
  @inline(__always)
  public mutating func combine(_ event: borrowing TraceEvent) {
    mix(UInt64(bitPattern: event.startNanoseconds))
    mix(event.offsetBytes)
    mix(event.sizeBytes)
    mix(UInt64(event.file) << 32 | UInt64(UInt32(bitPattern: event.threadID)))
    mix(UInt64(event.operation.rawValue))
  }

  @inline(__always)
  private mutating func mix(_ word: UInt64) {
    low = (low ^ word) &* 0x9E37_79B9_7F4A_7C15
    low ^= low >> 29
    high = (high &+ word) &* 0xC2B2_AE3D_27D4_EB4F
    high = high << 31 | high >> 33
  }

  /// 32 hexadecimal digits, the high half first.
  public var hexadecimal: String { Self.digits(high) + Self.digits(low) }

  private static func digits(_ value: UInt64) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: 16 - text.count) + text
  }
}
