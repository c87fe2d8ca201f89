import CTrace
import Glibc

/// The negotiation with an NBD server: fixed newstyle, structured replies where it has them, block sizes. Everything that the
/// server says is bounded and checked; nothing of it is trusted.
struct NBDHandshake: ~Copyable {
  private let descriptor: Int32
  private let address: NetAddress
  private let deadline: Int64
  private let timeout: Int64
  /// Longest reply to an option that is read.
  private static let maximumReplyBytes: UInt32 = 16_384
  /// Most replies to one option.
  private static let maximumReplies = 64

  /// Negotiates the address's export on a connected socket without blocking.
  /// - Throws: what the server refused or got wrong, in one sentence.
  static func negotiate(_ descriptor: Int32, _ address: NetAddress, timeoutNanoseconds: Int64) throws(TraceError) -> NBDExport {
    let handshake = NBDHandshake(
      descriptor: descriptor, address: address, deadline: ctrace_monotonic_ns() + timeoutNanoseconds, timeout: timeoutNanoseconds)
    return try handshake.run()
  }

  private init(descriptor: Int32, address: NetAddress, deadline: Int64, timeout: Int64) {
    self.descriptor = descriptor
    self.address = address
    self.deadline = deadline
    self.timeout = timeout
  }

  private func run() throws(TraceError) -> NBDExport {
    let greeting = try receive(18)
    guard integer(greeting, 0, UInt64.self) == NBDProtocol.initialMagic else { throw wrong("is no NBD server") }
    guard integer(greeting, 8, UInt64.self) == NBDProtocol.optionMagic else { throw wrong("speaks the NBD protocol's old style") }
    let flags = integer(greeting, 16, UInt16.self)
    guard flags & NBDProtocol.fixedNewstyle != 0 else { throw wrong("does not speak the fixed newstyle of the NBD protocol") }
    let noZeroes = flags & NBDProtocol.noZeroes
    var answer: [UInt8] = []
    answer.appendBigEndian(UInt32(NBDProtocol.fixedNewstyle | noZeroes))
    try send(answer)
    let structured = try askForStructuredReplies()
    if var export = try go() {
      export.repliesAreStructured = structured
      return export
    }
    var export = try exportName(hasZeroes: noZeroes == 0)
    export.repliesAreStructured = structured
    return export
  }

  // MARK: Options

  private func askForStructuredReplies() throws(TraceError) -> Bool {
    try send(option(.structuredReply, []))
    let reply = try optionReply(.structuredReply)
    return reply.type == NBDProtocol.replyAck
  }

  /// NBD_OPT_GO; nil when the server does not know it.
  private func go() throws(TraceError) -> NBDExport? {
    let name = Array((address.export ?? "").utf8)
    var data: [UInt8] = []
    data.appendBigEndian(UInt32(name.count))
    data += name
    data.appendBigEndian(UInt16(1))
    data.appendBigEndian(NBDProtocol.informationBlockSize)
    try send(option(.go, data))
    var export: NBDExport?
    var blockSizes: (minimum: UInt32, maximum: UInt32)?
    for _ in 0..<Self.maximumReplies {
      let reply = try optionReply(.go)
      if reply.type == NBDProtocol.replyAck {
        guard var export else { throw wrong("accepted the export without saying what it is") }
        if let blockSizes {
          export.minimumBlockBytes = blockSizes.minimum
          export.maximumPayloadBytes = blockSizes.maximum
        }
        return try checked(export)
      }
      if reply.type == NBDProtocol.replyErrorBit | 1 { return nil }
      guard reply.type & NBDProtocol.replyErrorBit == 0 else { throw refused(reply.type, reply.data) }
      guard reply.type == NBDProtocol.replyInformation, reply.data.count >= 2 else { throw wrong("sent a reply that is not known") }
      switch integer(reply.data, 0, UInt16.self) {
      case NBDProtocol.informationExport:
        guard reply.data.count == 12 else { throw wrong("sent a description of the export of the wrong length") }
        export = NBDExport(sizeBytes: integer(reply.data, 2, UInt64.self), flags: integer(reply.data, 10, UInt16.self))
      case NBDProtocol.informationBlockSize:
        guard reply.data.count == 14 else { throw wrong("sent block sizes of the wrong length") }
        blockSizes = (integer(reply.data, 2, UInt32.self), integer(reply.data, 10, UInt32.self))
      default: break
      }
    }
    throw wrong("sent too many replies to one question")
  }

  /// NBD_OPT_EXPORT_NAME, for servers without NBD_OPT_GO: an unknown export just ends the connection.
  private func exportName(hasZeroes: Bool) throws(TraceError) -> NBDExport {
    try send(option(.exportName, Array((address.export ?? "").utf8)))
    let reply = try receive(hasZeroes ? 134 : 10)
    return try checked(NBDExport(sizeBytes: integer(reply, 0, UInt64.self), flags: integer(reply, 8, UInt16.self)))
  }

  private func checked(_ export: NBDExport) throws(TraceError) -> NBDExport {
    var export = export
    guard export.sizeBytes <= UInt64(Int64.max) else { throw wrong("has an export of an impossible size") }
    // Without NBD_FLAG_HAS_FLAGS the others mean nothing.
    if export.flags & 1 == 0 { export.flags = 0 }
    let minimum = export.minimumBlockBytes
    guard minimum > 0, minimum & (minimum - 1) == 0, minimum <= 1 << 16 else { throw wrong("names an impossible block size of \(minimum)") }
    guard export.maximumPayloadBytes >= minimum else { throw wrong("names an impossible largest block of \(export.maximumPayloadBytes)") }
    export.maximumPayloadBytes = min(export.maximumPayloadBytes, NBDProtocol.defaultMaximumPayloadBytes) / minimum * minimum
    return export
  }

  private func option(_ option: NBDProtocol.Option, _ data: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendBigEndian(NBDProtocol.optionMagic)
    bytes.appendBigEndian(option.rawValue)
    bytes.appendBigEndian(UInt32(data.count))
    return bytes + data
  }

  private func optionReply(_ option: NBDProtocol.Option) throws(TraceError) -> (type: UInt32, data: [UInt8]) {
    let head = try receive(20)
    guard integer(head, 0, UInt64.self) == NBDProtocol.optionReplyMagic, integer(head, 8, UInt32.self) == option.rawValue else {
      throw wrong("sent something that is no reply to option \(option.rawValue)")
    }
    let length = integer(head, 16, UInt32.self)
    guard length <= Self.maximumReplyBytes else { throw wrong("sent a reply of \(length) bytes to an option") }
    return (integer(head, 12, UInt32.self), try receive(Int(length)))
  }

  // MARK: Errors

  private func wrong(_ what: String) -> TraceError { TraceError(.invalidInput, "\(address.text): the server \(what)") }

  private func refused(_ type: UInt32, _ message: [UInt8]) -> TraceError {
    let said = message.isEmpty ? "" : ", and says: \(PrintableText.escaped(Array(message.prefix(200))))"
    return TraceError(.refused, "\(address.text): cannot open the export: \(NBDProtocol.optionError(type))\(said)")
  }

  // MARK: Bytes

  private func integer<T: FixedWidthInteger & BitwiseCopyable>(_ bytes: [UInt8], _ offset: Int, _ type: T.Type) -> T {
    precondition(offset + MemoryLayout<T>.size <= bytes.count)
    return bytes.withUnsafeBytes { $0.baseAddress!.bigEndian(offset, as: type) }
  }

  private func send(_ bytes: [UInt8]) throws(TraceError) {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress! + done, bytes.count - done, CTRACE_MSG_DONTWAIT | CTRACE_MSG_NOSIGNAL)
      }
      if count >= 0 {
        done += count
      } else if errno == EAGAIN {
        guard try SocketSetup.wait(descriptor, for: POLLOUT, until: deadline) else { throw silent() }
      } else if errno != EINTR {
        throw TraceError(path: address.text, "negotiate", errno: errno)
      }
    }
  }

  private func receive(_ length: Int) throws(TraceError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: length)
    var done = 0
    while done < length {
      let count = bytes.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress! + done, length - done, CTRACE_MSG_DONTWAIT) }
      if count > 0 {
        done += count
      } else if count == 0 {
        throw wrong("closed the connection while negotiating; it may have no such export")
      } else if errno == EAGAIN {
        guard try SocketSetup.wait(descriptor, for: POLLIN, until: deadline) else { throw silent() }
      } else if errno != EINTR {
        throw TraceError(path: address.text, "negotiate", errno: errno)
      }
    }
    return bytes
  }

  private func silent() -> TraceError {
    TraceError(
      .system(ETIMEDOUT), "\(address.text): the server did not answer for \(DurationText.text(timeout)) (--timeout sets how long to wait)")
  }
}
