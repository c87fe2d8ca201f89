import CTrace
import Foundation
import Testing

@testable import TraceKit

/// A peer on a Unix socket that does what a test says: a listener whose connections are given to a closure, one after the other, on
/// a thread of its own.
final class ScriptedPeer: @unchecked Sendable {
  let path: String
  private let listener: Int32

  /// - Parameter script: gets each connection, which is closed after it.
  init(_ path: String, connections: Int = 1, _ script: @escaping @Sendable (Int32) -> Void) throws {
    self.path = path
    listener = try SocketSetup.listen(NetAddress(transport: .unix(path: path)), backlog: 8)
    let listener = listener
    Thread.detachNewThread {
      for _ in 0..<connections {
        guard let (descriptor, _) = try? SocketSetup.accept(listener, until: ctrace_monotonic_ns() + 60_000_000_000) else { break }
        ctrace_set_blocking(descriptor)
        script(descriptor)
        // The workers of a replay have copies of the process's descriptors: closing this one alone ends nothing.
        shutdown(descriptor, Int32(SHUT_RDWR))
        close(descriptor)
      }
      close(listener)
    }
  }

  var target: String { "unix:\(path)" }
  var nbdTarget: String { "nbd+unix:///?socket=\(path)" }
}

/// Reads so many bytes; fewer at the end.
@discardableResult
func receive(_ descriptor: Int32, _ count: Int) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: count)
  var done = 0
  while done < count {
    let got = bytes.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress! + done, count - done, 0) }
    if got <= 0 { break }
    done += got
  }
  return Array(bytes.prefix(done))
}

func transmit(_ descriptor: Int32, _ bytes: [UInt8]) {
  var done = 0
  while done < bytes.count {
    let sent = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress! + done, bytes.count - done, CTRACE_MSG_NOSIGNAL) }
    if sent <= 0 { break }
    done += sent
  }
}

/// The big-endian bytes of some integers, one after the other.
func wire(_ integers: any FixedWidthInteger...) -> [UInt8] {
  func bytes<T: FixedWidthInteger>(_ value: T) -> [UInt8] { Swift.withUnsafeBytes(of: value.bigEndian) { Array($0) } }
  return integers.flatMap { bytes($0) }
}

/// The server's side of an NBD negotiation: an export of 1 MiB that takes everything.
func negotiateAsServer(_ descriptor: Int32, structured: Bool, flags: UInt16 = 0x2D) {
  transmit(descriptor, wire(NBDProtocol.initialMagic, NBDProtocol.optionMagic, UInt16(3)))
  receive(descriptor, 4)
  while true {
    let head = receive(descriptor, 16)
    guard head.count == 16 else { return }
    let option = head.withUnsafeBytes { $0.baseAddress!.bigEndian(8, as: UInt32.self) }
    receive(descriptor, Int(head.withUnsafeBytes { $0.baseAddress!.bigEndian(12, as: UInt32.self) }))
    if option == NBDProtocol.Option.structuredReply.rawValue {
      let type = structured ? NBDProtocol.replyAck : NBDProtocol.replyErrorBit | 1
      transmit(descriptor, wire(NBDProtocol.optionReplyMagic, option, type, UInt32(0)))
    } else {
      transmit(
        descriptor,
        wire(NBDProtocol.optionReplyMagic, option, NBDProtocol.replyInformation, UInt32(12), UInt16(0), UInt64(1 << 20), flags))
      transmit(descriptor, wire(NBDProtocol.optionReplyMagic, option, NBDProtocol.replyAck, UInt32(0)))
      return
    }
  }
}

/// The next request's handle, offset and length; nil at the end.
func nextRequest(_ descriptor: Int32) -> (command: UInt16, handle: UInt64, offset: UInt64, length: UInt32)? {
  let bytes = receive(descriptor, NBDProtocol.requestBytes)
  guard bytes.count == NBDProtocol.requestBytes else { return nil }
  return bytes.withUnsafeBytes { buffer in
    let base = buffer.baseAddress!
    return (
      base.bigEndian(6, as: UInt16.self), base.bigEndian(8, as: UInt64.self), base.bigEndian(16, as: UInt64.self),
      base.bigEndian(24, as: UInt32.self)
    )
  }
}
