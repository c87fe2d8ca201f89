import CTrace
import Glibc

/// One connection of a server, on a thread of its own.
struct ServedConnection: Sendable {
  let descriptor: Int32
  let peer: String
  let shared: ServerShared
  private static let bufferBytes = 1 << 20

  func run() {
    defer { close(descriptor) }
    let begun = ctrace_monotonic_ns()
    var options = EngineOptions()
    options.network.timeoutNanoseconds = shared.options.idleNanoseconds
    options.network.computesDigests = shared.options.computesDigests
    options.eventLoop = .epoll
    do throws(TraceError) {
      var stream = try NetStream(descriptor, address: shared.options.address, options: options)
      var isSender = shared.reads
      var first: [UInt8] = []
      var wanted: UInt64 = 0
      if shared.reads {
        // The end that receives says so. A trace that only reads has no other peers; any program may be one.
        (isSender, wanted, first) = greeting(&stream)
      }
      if isSender { send(&stream, wanted: wanted) } else { receive(&stream, first: first) }
      shared.add(row(stream, isSender: isSender, elapsed: ctrace_monotonic_ns() - begun))
    } catch {
      shared.add(
        ServeReport.Connection(
          peer: peer, direction: "received", bytes: 0, expectedBytes: 0, comparison: "", elapsedNanoseconds: 0, failure: error.message))
    }
  }

  private func row(_ stream: borrowing NetStream, isSender: Bool, elapsed: Int64) -> ServeReport.Connection {
    let expected = isSender ? shared.sendBytes : shared.receiveBytes
    var row = ServeReport.Connection(
      peer: peer, direction: isSender ? "sent" : "received", bytes: stream.dataBytes, expectedBytes: expected,
      digest: stream.digestValue.map(Hexadecimal.text), comparison: stream.comparison.text, elapsedNanoseconds: elapsed,
      failure: stream.failure)
    let limit = shared.options.connections ?? 1
    if row.failure == nil, limit == 1, row.bytes != expected, shared.options.limitBytes == nil {
      row.failure = "\(row.bytes) bytes were \(row.direction), the trace has \(expected)"
    }
    return row
  }

  /// Which end sends: the first bytes of a receiving peer are its hello.
  private func greeting(_ stream: inout NetStream) -> (isSender: Bool, wanted: UInt64, first: [UInt8]) {
    // A raw program that only receives says nothing: with a trace that only reads it is served after a moment.
    let patience = shared.writes ? shared.options.idleNanoseconds : 1_000_000_000
    let (message, bytes) = stream.firstBytes(until: ctrace_monotonic_ns() &+ patience)
    if let message, message.kind == .hello { return (true, message.dataBytes, []) }
    return bytes.isEmpty || !shared.writes ? (true, 0, []) : (false, 0, bytes)
  }

  private func send(_ stream: inout NetStream, wanted: UInt64) {
    let memory = UnsafeMutableRawPointer(mutating: shared.payload.memory.baseAddress!)
    let limit = min(wanted == 0 ? shared.sendBytes : wanted, shared.options.limitBytes ?? UInt64.max)
    let chunk = min(Self.bufferBytes, shared.payload.memory.count)
    while stream.dataBytes < limit {
      let length = Int(min(UInt64(chunk), limit - stream.dataBytes))
      if stream.send(memory, length, more: false) < 0 { break }
    }
    // Several peers share what the trace reads, and none knows its part: one that has enough just goes.
    stream.finishSending(helloSeen: wanted > 0)
  }

  private func receive(_ stream: inout NetStream, first: [UInt8]) {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.bufferBytes, alignment: 4096)
    defer { memory.deallocate() }
    stream.sendHello(wanted: shared.receiveBytes)
    stream.receiveAll(
      memory, limit: shared.options.limitBytes ?? shared.receiveBytes, idle: shared.options.idleNanoseconds, first: first)
  }
}
