/// A target that is reached over a socket, as `--target` names it: `tcp://host:port`, `udp://host:port`, `unix:/path`,
/// `nbd://host[:port]/export` or `nbd+unix:///export?socket=/path` (the NBD URI specification's forms without TLS).
public struct NetAddress: Hashable, Sendable {
  /// How the peer is reached.
  public enum Transport: Hashable, Sendable {
    case tcp(host: String, port: UInt16)
    case udp(host: String, port: UInt16)
    case unix(path: String)
  }

  public var transport: Transport
  /// Name of the NBD export, "" for the server's default one; nil for a plain stream.
  public var export: String?

  public init(transport: Transport, export: String? = nil) {
    self.transport = transport
    self.export = export
  }

  /// Port that IANA registered for NBD.
  public static let nbdPort: UInt16 = 10_809
  /// sun_path of unix(7) with its final 0.
  private static let maximumUnixPathBytes = 107
  private static let maximumHostBytes = 253
  /// NBD_MAX_STRING of the protocol.
  static let maximumExportBytes = 4096

  public var isNBD: Bool { export != nil }
  public var isDatagram: Bool { if case .udp = transport { true } else { false } }
  public var isUnix: Bool { if case .unix = transport { true } else { false } }
  /// The URL's scheme.
  public var scheme: String {
    switch transport {
    case .tcp: isNBD ? "nbd" : "tcp"
    case .udp: "udp"
    case .unix: isNBD ? "nbd+unix" : "unix"
    }
  }

  /// Whether a target is an address and not a path.
  public static func isAddress(_ text: String) -> Bool {
    text.hasPrefix("unix:") || ["tcp", "udp", "nbd", "nbd+unix", "nbds", "nbds+unix"].contains { text.hasPrefix("\($0)://") }
  }

  /// The address of a target's text, for which `isAddress` holds.
  /// - Throws: what is wrong with it, in a sentence that shows the right form.
  public init(_ text: String) throws(TraceError) {
    func wrong(_ reason: String) -> TraceError { TraceError(.usage, "\(PrintableText.escaped(text)): \(reason)") }
    if text.hasPrefix("unix:") {
      var path = String(text.dropFirst("unix:".count))
      if path.hasPrefix("///") { path.removeFirst(2) }
      guard let checked = Self.unixPath(path) else {
        throw wrong("a Unix socket is unix:/path, of at most \(Self.maximumUnixPathBytes) bytes")
      }
      self.init(transport: .unix(path: checked))
      return
    }
    guard let separator = text.range(of: "://") else { throw wrong("no address") }
    let scheme = String(text[..<separator.lowerBound])
    let rest = String(text[separator.upperBound...])
    switch scheme {
    case "tcp", "udp":
      guard let (host, port) = Self.hostAndPort(rest), let port else {
        throw wrong("\(scheme) targets are \(scheme)://host:port, an IPv6 address in brackets")
      }
      self.init(transport: scheme == "tcp" ? .tcp(host: host, port: port) : .udp(host: host, port: port))
    case "nbd":
      let (authority, path) = Self.split(rest, at: "/")
      guard let (host, port) = Self.hostAndPort(authority), let export = Self.decoded(path ?? ""), Self.isExport(export) else {
        throw wrong("NBD targets are nbd://host[:port]/export")
      }
      self.init(transport: .tcp(host: host, port: port ?? Self.nbdPort), export: export)
    case "nbd+unix":
      let (name, query) = Self.split(rest, at: "?")
      guard name.hasPrefix("/"), let export = Self.decoded(String(name.dropFirst())), Self.isExport(export), let query,
        query.hasPrefix("socket="), let socket = Self.decoded(String(query.dropFirst("socket=".count))),
        let path = Self.unixPath(socket)
      else { throw wrong("NBD targets on a Unix socket are nbd+unix:///export?socket=/path") }
      self.init(transport: .unix(path: path), export: export)
    default: throw wrong("TLS is not supported; nbd:// and nbd+unix:// are")
    }
  }

  /// The address as text, safe to print; what `init` takes for it.
  public var text: String {
    switch transport {
    case .tcp(let host, let port):
      guard let export else { return "tcp://\(Self.bracketed(host)):\(port)" }
      return "nbd://\(Self.bracketed(host)):\(port)/\(PrintableText.escaped(export))"
    case .udp(let host, let port): return "udp://\(Self.bracketed(host)):\(port)"
    case .unix(let path):
      guard let export else { return "unix:\(PrintableText.escaped(path))" }
      return "nbd+unix:///\(PrintableText.escaped(export))?socket=\(PrintableText.escaped(path))"
    }
  }

  // MARK: Parts

  static func bracketed(_ host: String) -> String {
    let shown = PrintableText.escaped(host)
    return shown.contains(":") ? "[\(shown)]" : shown
  }

  /// `host`, `host:port` or `[v6]:port`; nil when it is none of these. A final slash is forgiven.
  static func hostAndPort(_ text: String) -> (host: String, port: UInt16?)? {
    var text = text
    if text.hasSuffix("/") { text.removeLast() }
    var host = text
    var digits: String?
    if text.hasPrefix("[") {
      guard let end = text.firstIndex(of: "]") else { return nil }
      host = String(text[text.index(after: text.startIndex)..<end])
      let tail = text[text.index(after: end)...]
      guard tail.isEmpty || tail.hasPrefix(":") else { return nil }
      if !tail.isEmpty { digits = String(tail.dropFirst()) }
    } else {
      let parts = split(text, at: ":")
      host = parts.0
      digits = parts.1
      if let digits, digits.contains(":") { return nil }
    }
    guard !host.isEmpty, host.utf8.count <= maximumHostBytes, host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != 0x2F }) else {
      return nil
    }
    guard let digits else { return (host, nil) }
    guard digits.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let port = UInt16(digits) else { return nil }
    return (host, port)
  }

  private static func split(_ text: String, at separator: Character) -> (String, String?) {
    guard let place = text.firstIndex(of: separator) else { return (text, nil) }
    return (String(text[..<place]), String(text[text.index(after: place)...]))
  }

  private static func unixPath(_ path: String) -> String? {
    path.hasPrefix("/") && path.utf8.count <= maximumUnixPathBytes && !path.utf8.contains(0) ? path : nil
  }

  private static func isExport(_ name: String) -> Bool { name.utf8.count <= maximumExportBytes && !name.utf8.contains(0) }

  /// Percent-decoded; nil for a broken escape or bytes that are no UTF-8.
  private static func decoded(_ text: String) -> String? {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else { return nil }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    return String(validating: bytes, as: UTF8.self)
  }
}

extension String {
  /// The first place of `needle`, without Foundation.
  fileprivate func range(of needle: String) -> Range<String.Index>? {
    var start = startIndex
    while start < endIndex {
      if self[start...].hasPrefix(needle) { return start..<index(start, offsetBy: needle.count) }
      start = index(after: start)
    }
    return nil
  }
}
