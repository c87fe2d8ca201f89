import CTrace
import Glibc

/// An address that the kernel takes: a sockaddr and its length.
struct SocketAddress {
  var storage: sockaddr_storage
  var length: socklen_t

  var family: Int32 { withUnsafePointer(to: storage) { Int32(ctrace_address_family($0)) } }
  var port: UInt16 { withUnsafePointer(to: storage) { UInt16(truncatingIfNeeded: ctrace_address_port($0)) } }
  /// The IP address in network order: 4 or 16 bytes; none for Unix sockets.
  var bytes: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 16)
    let count = withUnsafePointer(to: storage) { ctrace_address_bytes($0, &bytes) }
    return Array(bytes.prefix(count))
  }

  /// The address as numbers, safe to print.
  var text: String {
    guard !bytes.isEmpty else { return "a Unix socket" }
    var host = [CChar](repeating: 0, count: 64)
    let code = pointed { getnameinfo($0, length, &host, socklen_t(host.count), nil, 0, NI_NUMERICHOST) }
    guard code == 0 else { return "an unknown address" }
    return "\(NetAddress.bracketed(String(decoding: host.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))):\(port)"
  }

  func pointed<Value>(_ body: (UnsafePointer<sockaddr>) -> Value) -> Value {
    withUnsafePointer(to: storage) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0) } }
  }

  /// The addresses of a transport, in the resolver's order.
  /// - Parameter passive: for binding.
  /// - Throws: a sentence when a name is not known.
  static func resolve(_ address: NetAddress, passive: Bool = false) throws(TraceError) -> [SocketAddress] {
    switch address.transport {
    case .unix(let path):
      var one = SocketAddress(storage: sockaddr_storage(), length: 0)
      one.length = ctrace_unix_address(&one.storage, path)
      guard one.length > 0 else { throw TraceError(.usage, "\(address.text): the path is too long for a Unix socket") }
      return [one]
    case .tcp(let host, let port), .udp(let host, let port):
      return try lookUp(host, port, isDatagram: address.isDatagram, passive: passive, shown: address.text)
    }
  }

  private static func lookUp(
    _ host: String, _ port: UInt16, isDatagram: Bool, passive: Bool, shown: String
  ) throws(TraceError) -> [SocketAddress] {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32((isDatagram ? SOCK_DGRAM : SOCK_STREAM).rawValue)
    hints.ai_flags = passive ? AI_PASSIVE : 0
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, String(port), &hints, &list)
    guard code == 0 else {
      throw TraceError(.refused, "\(shown): the host's address is not known: \(String(cString: gai_strerror(code)))")
    }
    defer { freeaddrinfo(list) }
    var found: [SocketAddress] = []
    var next = list
    while let row = next {
      next = row.pointee.ai_next
      guard let from = row.pointee.ai_addr, Int(row.pointee.ai_addrlen) <= MemoryLayout<sockaddr_storage>.size else { continue }
      var one = SocketAddress(storage: sockaddr_storage(), length: row.pointee.ai_addrlen)
      withUnsafeMutableBytes(of: &one.storage) { $0.baseAddress!.copyMemory(from: from, byteCount: Int(row.pointee.ai_addrlen)) }
      found.append(one)
    }
    return found
  }

  /// The local address of a socket.
  static func local(_ descriptor: Int32) -> SocketAddress {
    var one = SocketAddress(storage: sockaddr_storage(), length: socklen_t(MemoryLayout<sockaddr_storage>.size))
    withUnsafeMutablePointer(to: &one.storage) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = getsockname(descriptor, $0, &one.length) }
    }
    return one
  }
}
