import Glibc

/// Addresses that share their first bits: `10.0.0.0/8`, `fe80::/10`, or one address.
public struct AddressPrefix: Hashable, Sendable {
  private let bytes: [UInt8]
  private let bits: Int

  /// The machine itself.
  static let loopback = [AddressPrefix("127.0.0.0/8")!, AddressPrefix("::1")!]

  /// Nil for anything but an IPv4 or IPv6 address as numbers, with or without a length.
  public init?(_ text: String) {
    let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    guard let bytes = Self.parse(parts[0]) else { return nil }
    var bits = bytes.count * 8
    if parts.count == 2 {
      guard let number = Int(parts[1]), number >= 0, number <= bits else { return nil }
      bits = number
    }
    self.bytes = bytes
    self.bits = bits
  }

  private static func parse(_ text: String) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: 16)
    if inet_pton(AF_INET, text, &bytes) == 1 { return Array(bytes.prefix(4)) }
    return inet_pton(AF_INET6, text, &bytes) == 1 ? bytes : nil
  }

  /// Whether an address (4 or 16 bytes in network order) is one of them. IPv4 in IPv6 counts as IPv4.
  func contains(_ address: [UInt8]) -> Bool {
    var address = address
    if address.count == 16, bytes.count == 4, Array(address.prefix(12)) == [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF] {
      address = Array(address.suffix(4))
    }
    guard address.count == bytes.count else { return false }
    for i in 0..<bytes.count {
      let left = bits - i * 8
      if left <= 0 { return true }
      let mask: UInt8 = left >= 8 ? 0xFF : ~(0xFF >> UInt8(left))
      if address[i] & mask != bytes[i] & mask { return false }
    }
    return true
  }
}
