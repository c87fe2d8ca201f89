import CTrace
import Glibc

/// Sockets: writes are sent, reads are received, one request at a time per connection. Streams have no offsets, and a sync of a
/// stream is no operation; both are ignored, and said.
public struct NetEngine: IOEngine, ~Copyable {
  public static let name = "net"
  public static let summary = "sends writes and receives reads over TCP, UDP or a Unix stream socket; trace-replay serve is the other end"
  public static var targetKind: EngineTargetKind { .streams }
  public static var looksAhead: Bool { true }
  public static var capabilities: EngineCapabilities {
    var capabilities = EngineCapabilities(operations: [.read, .write, .fsync, .fdatasync, .syncFileRange])
    capabilities.randomOffsets = false
    capabilities.lastingTarget = false
    capabilities.discardsBlockDevices = false
    return capabilities
  }

  // By pointers: a stream is large, and the engine is not to be.
  private let sending: UnsafeMutablePointer<NetStream>?
  private let receiving: UnsafeMutablePointer<NetStream>?
  private let datagramsOut: UnsafeMutablePointer<NetDatagrams>?
  private let datagramsIn: UnsafeMutablePointer<NetDatagrams>?
  private var syncs: UInt64 = 0
  private let isDatagram: Bool

  public static var settings: Set<EngineSetting> { [.eventLoop, .listen, .duplex, .splice, .timeout, .noDigest] }

  public static func refusal(of options: EngineOptions) -> String? {
    if options.network.splices, options.eventLoop == .ioUring {
      return "--splice with --event-loop io_uring: spliced data are not sent by ring operations; choose one"
    }
    return nil
  }

  public init(_ configuration: EngineConfiguration) throws(TraceError) {
    guard let connection = configuration.connection else { throw TraceError(.usage, "--engine net needs a --target address") }
    let address = connection.address
    let options = configuration.options
    let isOut = connection.output >= 0
    let isIn = connection.input >= 0
    let stream = !address.isDatagram
    let out = stream && isOut ? try Self.stream(connection.output, address, options, configuration.writeArena) : nil
    let `in` = stream && isIn ? try Self.stream(connection.input, address, options, UnsafeRawBufferPointer(start: nil, count: 0)) : nil
    let outgoing = !stream && isOut ? try Self.datagrams(connection.output, address, options) : nil
    let incoming = !stream && isIn ? try Self.datagrams(connection.input, address, options) : nil
    sending = out
    receiving = `in`
    datagramsOut = outgoing
    datagramsIn = incoming
    isDatagram = address.isDatagram
  }

  private static func stream(
    _ descriptor: Int32, _ address: NetAddress, _ options: EngineOptions, _ stable: UnsafeRawBufferPointer
  ) throws(TraceError) -> UnsafeMutablePointer<NetStream> {
    let made = try NetStream(descriptor, address: address, options: options, stable: stable)
    let pointer = UnsafeMutablePointer<NetStream>.allocate(capacity: 1)
    pointer.initialize(to: made)
    return pointer
  }

  private static func datagrams(
    _ descriptor: Int32, _ address: NetAddress, _ options: EngineOptions
  ) throws(TraceError) -> UnsafeMutablePointer<NetDatagrams> {
    let made = try NetDatagrams(descriptor, address: address, options: options.network, eventLoop: options.eventLoop)
    let pointer = UnsafeMutablePointer<NetDatagrams>.allocate(capacity: 1)
    pointer.initialize(to: made)
    return pointer
  }

  deinit {
    for stream in [sending, receiving] {
      _ = stream?.deinitialize(count: 1)
      stream?.deallocate()
    }
    for datagrams in [datagramsOut, datagramsIn] {
      _ = datagrams?.deinitialize(count: 1)
      datagrams?.deallocate()
    }
  }

  @inline(__always)
  public mutating func queue(_ operation: IOOperation, slot: Int32) -> QueueStatus {
    switch operation.kind {
    case .write:
      guard !isDatagram else {
        return .completed(datagramsOut?.pointee.send(operation.buffer, operation.lengthBytes) ?? -Int64(EOPNOTSUPP))
      }
      guard let buffer = operation.buffer else { return .completed(0) }
      return .completed(sending?.pointee.send(buffer, operation.lengthBytes, more: operation.isFollowed) ?? -Int64(EOPNOTSUPP))
    case .read:
      guard !isDatagram else {
        return .completed(datagramsIn?.pointee.receive(operation.buffer, operation.lengthBytes) ?? -Int64(EOPNOTSUPP))
      }
      guard let buffer = operation.buffer else { return .completed(0) }
      return .completed(receiving?.pointee.receive(buffer, operation.lengthBytes) ?? -Int64(EOPNOTSUPP))
    case .fsync, .fdatasync, .syncFileRange:
      syncs &+= 1
      return .completed(0)
    case .truncate, .allocate, .discard: return .completed(-Int64(EOPNOTSUPP))
    }
  }

  public mutating func finish() {
    sending?.pointee.finishSending()
    receiving?.pointee.finishReceiving()
    datagramsOut?.pointee.finishSending()
    datagramsIn?.pointee.finishReceiving()
  }

  public var failure: String? {
    if let sending, let failure = sending.pointee.failure { return failure }
    if let receiving, let failure = receiving.pointee.failure { return failure }
    if let datagramsOut, let failure = datagramsOut.pointee.failure { return failure }
    return datagramsIn?.pointee.failure
  }

  public var conditions: [String: String] {
    var rows: [String: String] = [:]
    if syncs > 0 { rows["net-syncs-ignored"] = String(syncs) }
    if let sending { describe(sending, "sent", &rows) }
    if let receiving { describe(receiving, "received", &rows) }
    if let datagramsOut {
      describe(datagramsOut, "sent", &rows)
      let sent = datagramsOut.pointee.tally.datagrams
      if let peer = datagramsOut.pointee.peerTally { rows["net-datagrams-lost"] = String(sent &- min(sent, peer.datagrams)) }
    }
    if let datagramsIn {
      describe(datagramsIn, "received", &rows)
      rows["net-datagrams-lost"] = String(datagramsIn.pointee.missing)
      rows["net-datagrams-reordered"] = String(datagramsIn.pointee.reordered)
      rows["net-datagrams-too-large"] = String(datagramsIn.pointee.truncated)
    }
    return rows
  }

  private func describe(_ datagrams: UnsafeMutablePointer<NetDatagrams>, _ verb: String, _ rows: inout [String: String]) {
    let tally = datagrams.pointee.tally
    rows["net-event-loop"] = datagrams.pointee.eventLoopName
    rows["net-datagrams-\(verb)"] = String(tally.datagrams)
    rows["net-bytes-\(verb)"] = String(tally.bytes)
    if tally.hasDigest { rows["net-digest-\(verb)"] = Hexadecimal.text(tally.digest) }
    rows["net-comparison-\(verb)"] = datagrams.pointee.comparison
  }

  private func describe(_ stream: UnsafeMutablePointer<NetStream>, _ verb: String, _ rows: inout [String: String]) {
    rows.merge(stream.pointee.conditions) { first, _ in first }
    rows["net-bytes-\(verb)"] = String(stream.pointee.dataBytes)
    if let digest = stream.pointee.digestValue { rows["net-digest-\(verb)"] = Hexadecimal.text(digest) }
    rows["net-resumed-\(verb)"] = String(stream.pointee.resumed)
    rows["net-waits-\(verb)"] = String(stream.pointee.waits)
    rows["net-comparison-\(verb)"] = stream.pointee.comparison.text
  }
}
