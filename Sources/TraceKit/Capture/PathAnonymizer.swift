import CTrace
import Glibc

/// Hides names: each component of a path becomes a keyed hash, so the tree keeps its shape and equal names stay equal; the
/// last component keeps its extension.
public struct PathAnonymizer: Sendable {
  private let hash: SipHash

  /// With a key of 16 random bytes that is never stored.
  public init() {
    var key: (UInt64, UInt64) = (0, 0)
    withUnsafeMutableBytes(of: &key) { bytes in
      var filled = 0
      while filled < bytes.count {
        let count = getrandom(bytes.baseAddress! + filled, bytes.count - filled, 0)
        if count > 0 { filled += count }
      }
    }
    hash = SipHash(key0: key.0, key1: key.1)
  }

  /// With a key made of `secret`, so that several recordings hide a name alike.
  public init(secret: [UInt8]) {
    hash = SipHash(
      key0: SipHash(key0: 0, key1: 1).hash(secret), key1: SipHash(key0: 2, key1: 3).hash(secret))
  }

  /// With the key in a file of at least 16 bytes.
  /// - Throws: when it can't be read or is too short to be a secret.
  public init(keyFile path: String) throws(TraceError) {
    guard let secret = SmallFile.bytes(path) else { throw TraceError(path: path, "read the key", errno: errno) }
    guard secret.count >= 16 else {
      throw TraceError(
        .refused,
        "\(PrintableText.escaped(path)): a key has at least 16 bytes, this has \(secret.count); 'head -c 32 /dev/urandom' makes one")
    }
    self.init(secret: secret)
  }

  /// What the names of sockets begin with, as `tcp:` and `unix-listen:`.
  private static let socketKinds = ["tcp", "udp", "sctp", "ip", "unix"]

  /// The path with its names hidden. What is no path (`pipe:[123]`) holds no name and stays. Of a socket the kind and the port
  /// stay.
  public func anonymized(_ path: [UInt8]) -> [UInt8] {
    if let colon = path.firstIndex(of: UInt8(ascii: ":")), !path.starts(with: "/".utf8) {
      let kind = String(decoding: path[..<colon].prefix { $0 != UInt8(ascii: "-") }, as: UTF8.self)
      if Self.socketKinds.contains(kind) { return anonymizedSocket(path, isLocal: kind == "unix", colon: colon) }
    }
    return anonymizedPath(path)
  }

  private func anonymizedSocket(_ path: [UInt8], isLocal: Bool, colon: Int) -> [UInt8] {
    let address = Array(path[(colon + 1)...])
    let kind = path[...colon]
    if isLocal { return kind + (address.first == UInt8(ascii: "/") ? anonymizedPath(address) : hexadecimal(hash.hash(address[...]))) }
    let port = address.lastIndex(of: UInt8(ascii: ":")) ?? address.endIndex
    return kind + hexadecimal(hash.hash(address[..<port])) + address[port...]
  }

  private func anonymizedPath(_ path: [UInt8]) -> [UInt8] {
    guard path.contains(UInt8(ascii: "/")) else { return path }
    var result: [UInt8] = []
    let parts = path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    for (number, part) in parts.enumerated() {
      if number > 0 { result.append(UInt8(ascii: "/")) }
      if part.isEmpty || part.elementsEqual(".".utf8) || part.elementsEqual("..".utf8) {
        result += part
      } else {
        result += hexadecimal(hash.hash(part))
        if number == parts.count - 1 { result += fileExtension(of: part) }
      }
    }
    return result
  }

  /// The last point and at most eight letters and digits behind it; a name's first character begins no extension.
  private func fileExtension(of name: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    guard let point = name.lastIndex(of: UInt8(ascii: ".")), point > name.startIndex else { return [] }
    let letters = name[(point + 1)...]
    func isAlphanumeric(_ byte: UInt8) -> Bool {
      (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
    }
    return !letters.isEmpty && letters.count <= 8 && letters.allSatisfy(isAlphanumeric) ? name[point...] : []
  }

  private func hexadecimal(_ value: UInt64) -> [UInt8] {
    let digits = Array("0123456789abcdef".utf8)
    return (0..<16).map { digits[Int(value >> (60 - 4 * UInt64($0)) & 15)] }
  }
}
