import CTrace
import Glibc

/// One direction of a TCP or Unix stream: every transfer complete, its bytes counted and digested, within a time limit.
///
/// Tries without blocking first, then waits for readiness; with a ring, transfers are ring operations.
struct NetStream: ~Copyable {
  let descriptor: Int32
  private let address: NetAddress
  private let timeout: Int64
  private let digest: OpaquePointer?
  private let loop: UnsafeMutablePointer<SocketLoop>
  /// Sends and receives are ring operations.
  private let usesRing: Bool
  private let splicer: UnsafeMutablePointer<SocketSplicer>?
  private(set) var dataBytes: UInt64 = 0
  /// Transfers that needed more than one call.
  private(set) var resumed: UInt64 = 0
  /// Times that readiness was waited for.
  private(set) var waits: UInt64 = 0
  /// Why the stream is of no more use.
  private(set) var failure: String?
  private(set) var hasEnded = false
  /// What the peer said of the stream's bytes, and what follows from it.
  private(set) var comparison = Comparison.none

  /// Whether both ends have the same bytes.
  enum Comparison: Equatable {
    /// The peer said nothing: another program, or one that went away.
    case none
    case equal
    /// Digests are of different lengths or off.
    case notComparable(String)
    case different(own: StreamMessage, peer: StreamMessage)

    var text: String {
      switch self {
      case .none: "the peer gave none"
      case .equal: "equal at both ends"
      case .notComparable(let reason): "not comparable: \(reason)"
      case .different: "DIFFERENT"
      }
    }
  }

  /// - Parameter stable: memory that nobody writes to meanwhile; only for splicing.
  init(
    _ descriptor: Int32, address: NetAddress, options: EngineOptions,
    stable: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
  ) throws(TraceError) {
    ctrace_set_blocking(descriptor)
    // MSG_WAITALL waits in the kernel: in slices, for the stop signal and the time limit.
    ctrace_set_receive_timeout(descriptor, 50_000_000)
    let waiting = try SocketLoop.make(descriptor, options.eventLoop)
    var splicing: UnsafeMutablePointer<SocketSplicer>?
    if options.network.splices {
      let made = try SocketSplicer(socket: descriptor, label: address.text, stable: stable)
      splicing = .allocate(capacity: 1)
      splicing!.initialize(to: made)
    }
    self.descriptor = descriptor
    self.address = address
    timeout = options.network.timeoutNanoseconds
    splicer = splicing
    loop = waiting
    usesRing = splicing == nil && options.eventLoop == .ioUring && waiting.pointee.hasRing
    digest = options.network.computesDigests ? ctrace_digest_new() : nil
  }

  deinit {
    loop.deinitialize(count: 1)
    loop.deallocate()
    if let splicer {
      splicer.deinitialize(count: 1)
      splicer.deallocate()
    }
    if let digest { ctrace_digest_free(digest) }
  }

  /// Size of the pipe, set-up of the ring: what a report should say.
  var conditions: [String: String] {
    var rows = ["net-event-loop": loop.pointee.backendName, "net-transfers-by": usesRing ? "ring operations" : "calls"]
    if let splicer {
      rows["net-transfers-by"] = "splice"
      rows["pipe-size"] = ByteCount.text(UInt64(splicer.pointee.pipeBytes))
    }
    return rows
  }

  var digestValue: UInt64? { digest.map { ctrace_digest_value($0) } }

  // MARK: Sending

  /// Sends all of it: the bytes, or −errno, after which `failure` says what became of the peer.
  @inline(__always)
  mutating func send(_ buffer: UnsafeMutableRawPointer, _ length: Int, more: Bool) -> Int64 {
    if !usesRing, splicer == nil {
      let flags = CTRACE_MSG_DONTWAIT | CTRACE_MSG_NOSIGNAL | (more ? CTRACE_MSG_MORE : 0)
      let count = Glibc.send(descriptor, buffer, length, flags)
      if count == length { return moved(buffer, length) }
      return sendRest(buffer, length, first: count < 0 ? -Int(errno) : count, flags)
    }
    return sendOtherwise(buffer, length, more: more)
  }

  /// Bytes that moved, counted and taken into the digest.
  @inline(__always)
  private mutating func moved(_ buffer: UnsafeMutableRawPointer, _ length: Int) -> Int64 {
    dataBytes &+= UInt64(length)
    if let digest { ctrace_digest_add(digest, buffer, length) }
    return Int64(length)
  }

  @inline(never)
  private mutating func sendRest(_ buffer: UnsafeMutableRawPointer, _ length: Int, first: Int, _ flags: Int32) -> Int64 {
    var done = max(0, first)
    var code = first < 0 ? Int32(-first) : 0
    if first > 0 { resumed &+= 1 }
    var deadline = ctrace_monotonic_ns() &+ timeout
    while done < length {
      if code == EAGAIN {
        waits &+= 1
        switch loop.pointee.wait(.writable, until: deadline) {
        case .ready: break
        case .timedOut: return fail(ETIMEDOUT, "took")
        case .stopped: return -Int64(ECANCELED)
        }
      } else if code != 0, code != EINTR {
        return fail(code, "took")
      }
      let count = Glibc.send(descriptor, buffer + done, length - done, flags)
      code = count < 0 ? errno : 0
      guard count > 0 else { continue }
      if done + count < length { resumed &+= 1 }
      done += count
      deadline = ctrace_monotonic_ns() &+ timeout
    }
    return moved(buffer, length)
  }

  @inline(never)
  private mutating func sendOtherwise(_ buffer: UnsafeMutableRawPointer, _ length: Int, more: Bool) -> Int64 {
    if let splicer {
      guard splicer.pointee.isStable(buffer, length) else {
        return sendRest(buffer, length, first: 0, CTRACE_MSG_DONTWAIT | CTRACE_MSG_NOSIGNAL | (more ? CTRACE_MSG_MORE : 0))
      }
      let result = splicer.pointee.send(buffer, length, more: more, timeout: timeout, loop: loop, resumed: &resumed)
      return result < 0 ? fail(Int32(-result), "took") : moved(buffer, length)
    }
    let flags = CTRACE_MSG_NOSIGNAL | CTRACE_MSG_WAITALL | (more ? CTRACE_MSG_MORE : 0)
    var done = 0
    while done < length {
      let result = loop.pointee.transfer(
        buffer + done, length - done, isSend: true, flags: flags, until: ctrace_monotonic_ns() &+ timeout)
      if result == -Int(EINTR) || result == -Int(EAGAIN) { continue }
      guard result > 0 else { return fail(Int32(-result), "took") }
      done += result
      if done < length { resumed &+= 1 }
    }
    return moved(buffer, length)
  }

  // MARK: Receiving

  /// Receives all of it: the bytes, fewer at the stream's end, or −errno.
  @inline(__always)
  mutating func receive(_ buffer: UnsafeMutableRawPointer, _ length: Int) -> Int64 {
    if !usesRing, splicer == nil {
      let count = recv(descriptor, buffer, length, CTRACE_MSG_DONTWAIT)
      if count == length { return moved(buffer, length) }
      return receiveRest(buffer, length, first: count < 0 ? -Int(errno) : count)
    }
    return receiveRest(buffer, length, first: length == 0 ? 0 : step(buffer, length))
  }

  @inline(never)
  private mutating func receiveRest(_ buffer: UnsafeMutableRawPointer, _ length: Int, first: Int) -> Int64 {
    if length == 0 { return 0 }
    var done = 0
    var count = first
    var deadline = ctrace_monotonic_ns() &+ timeout
    while true {
      if count > 0 {
        done += count
        if done == length { return moved(buffer, length) }
        resumed &+= 1
        deadline = ctrace_monotonic_ns() &+ timeout
      } else if count == 0 {
        return ended(buffer, done)
      } else if count != -Int(EAGAIN), count != -Int(EINTR) {
        return fail(Int32(-count), "gave")
      }
      if !usesRing, count != -Int(EINTR) {
        waits &+= 1
        switch loop.pointee.wait(.readable, until: deadline) {
        case .ready: break
        case .timedOut: return fail(ETIMEDOUT, "gave")
        case .stopped: return -Int64(ECANCELED)
        }
      }
      count = step(buffer + done, length - done)
    }
  }

  /// One call that gives what it can.
  private mutating func step(_ buffer: UnsafeMutableRawPointer, _ length: Int) -> Int {
    if let splicer { return splicer.pointee.receive(buffer, length) }
    if usesRing {
      return loop.pointee.transfer(
        buffer, length, isSend: false, flags: CTRACE_MSG_WAITALL, until: ctrace_monotonic_ns() &+ timeout)
    }
    let count = recv(descriptor, buffer, length, CTRACE_MSG_WAITALL)
    return count < 0 ? -Int(errno) : count
  }

  /// The peer ended the stream inside a request. What it sent last may be its trailer.
  private mutating func ended(_ buffer: UnsafeMutableRawPointer, _ length: Int) -> Int64 {
    hasEnded = true
    var data = length
    if length >= StreamMessage.byteCount, let message = StreamMessage(buffer + (length - StreamMessage.byteCount)), message.kind == .trailer
    {
      data -= StreamMessage.byteCount
      _ = moved(buffer, data)
      compare(with: message)
    } else {
      _ = moved(buffer, data)
    }
    failure = "\(address.text): the peer ended the stream after \(ByteCount.text(dataBytes)); the trace reads more"
    return data > 0 ? Int64(data) : -Int64(ENODATA)
  }

  @inline(never)
  private mutating func fail(_ code: Int32, _ verb: String) -> Int64 {
    if code == ECANCELED { return -Int64(code) }
    let so = "after \(ByteCount.text(dataBytes))"
    switch code {
    case ETIMEDOUT:
      failure =
        "\(address.text): the peer \(verb) nothing for \(DurationText.text(timeout)), \(so); --timeout sets how long to wait"
    case EPIPE, ECONNRESET: failure = "\(address.text): the peer closed the connection \(so)"
    default: failure = "\(address.text): \(String(cString: strerror(code))), \(so)"
    }
    return -Int64(code)
  }

  // MARK: The end

  /// What this end knows of the bytes so far.
  private func message(_ kind: StreamMessage.Kind) -> StreamMessage {
    StreamMessage(kind: kind, dataBytes: dataBytes, digest: digestValue ?? 0, hasDigest: digest != nil)
  }

  private mutating func compare(with peer: StreamMessage) {
    let own = message(.summary)
    if own.dataBytes != peer.dataBytes {
      comparison = .notComparable(
        "this end has \(own.dataBytes) bytes, the peer \(peer.dataBytes)")
    } else if !own.hasDigest || !peer.hasDigest {
      comparison = .notComparable("computed at \(own.hasDigest ? "this end only" : peer.hasDigest ? "the peer's end only" : "neither end")")
    } else if own.digest != peer.digest {
      comparison = .different(own: own, peer: peer)
      failure =
        "\(address.text): what was received is not what was sent: digest \(Hexadecimal.text(own.digest)) here, \(Hexadecimal.text(peer.digest)) at the peer, of \(own.dataBytes) bytes"
    } else {
      comparison = .equal
    }
  }

  /// The receiving end introduces itself. - Parameter wanted: bytes that it will take, 0 when it does not know.
  mutating func sendHello(wanted: UInt64) {
    _ = transmit(StreamMessage(kind: .hello, dataBytes: wanted))
  }

  /// The sending end has nothing more: gives its digest to a peer that asked for it, ends the stream and hears what arrived.
  /// - Parameter helloSeen: the peer's hello was read already.
  mutating func finishSending(helloSeen: Bool = false) {
    guard failure == nil else { return }
    // A peer that is no trace-replay never says hello; one that is said it when it connected.
    let isKnown = helloSeen || nextMessage(until: ctrace_monotonic_ns() &+ min(timeout, 1_000_000_000))?.kind == .hello
    if isKnown { _ = transmit(message(.trailer)) }
    shutdown(descriptor, CTRACE_SHUT_WR)
    if isKnown {
      if let summary = nextMessage(until: ctrace_monotonic_ns() &+ timeout), summary.kind == .summary {
        compare(with: summary)
        if failure == nil, case .notComparable(let reason) = comparison, summary.dataBytes != dataBytes {
          failure = "\(address.text): the peer did not receive all that was sent: \(reason)"
        }
      } else if ctrace_stop_signal() == 0 {
        failure = "\(address.text): the peer did not confirm what it received within \(DurationText.text(timeout))"
      }
    }
    if let splicer { _ = splicer.pointee.waitUntilAcknowledged(timeout: min(timeout, 5_000_000_000)) }
  }

  /// The receiving end wants nothing more: hears the peer's digest and says its own.
  mutating func finishReceiving() {
    guard failure == nil || hasEnded else { return }
    if !hasEnded {
      if let trailer = nextMessage(until: ctrace_monotonic_ns() &+ min(timeout, 5_000_000_000)), trailer.kind == .trailer {
        compare(with: trailer)
      }
    }
    _ = transmit(message(.summary))
    shutdown(descriptor, CTRACE_SHUT_WR)
  }

  /// A receiving end that takes whatever comes until the stream ends.
  /// - Parameters:
  ///   - memory: where data go; its content is of no interest.
  ///   - limit: bytes beyond which the peer is cut off.
  ///   - idle: nanoseconds without any data.
  mutating func receiveAll(_ memory: UnsafeMutableRawBufferPointer, limit: UInt64, idle: Int64, first: [UInt8] = []) {
    let base = memory.baseAddress!
    // The last 40 bytes so far may be the trailer: they count as data only when more follows.
    var held = first.count
    first.withUnsafeBytes { if $0.count > 0 { base.copyMemory(from: $0.baseAddress!, byteCount: $0.count) } }
    var deadline = ctrace_monotonic_ns() &+ idle
    while true {
      let count = recv(descriptor, base + held, memory.count - held, CTRACE_MSG_DONTWAIT)
      if count > 0 {
        held += count
        let data = max(0, held - StreamMessage.byteCount)
        if data > 0 {
          _ = moved(base, data)
          memmove(base, base + data, held - data)
          held -= data
        }
        guard dataBytes <= limit else {
          failure = "\(address.text): the peer sent more than \(limit) bytes and was cut off (--bytes sets the limit)"
          return
        }
        deadline = ctrace_monotonic_ns() &+ idle
      } else if count == 0 {
        finishAll(base, held)
        return
      } else if errno == EAGAIN {
        waits &+= 1
        switch loop.pointee.wait(.readable, until: deadline) {
        case .ready: break
        case .timedOut:
          _ = moved(base, held)
          failure =
            "\(address.text): the peer sent nothing for \(DurationText.text(idle)), after \(ByteCount.text(dataBytes)) (--idle sets how long to wait)"
          return
        case .stopped:
          _ = moved(base, held)
          failure = "stopped by a signal after \(ByteCount.text(dataBytes))"
          return
        }
      } else if errno != EINTR {
        let code = errno
        _ = moved(base, held)
        _ = fail(code, "gave")
        return
      }
    }
  }

  private mutating func finishAll(_ base: UnsafeMutableRawPointer, _ held: Int) {
    hasEnded = true
    if held == StreamMessage.byteCount, let trailer = StreamMessage(base), trailer.kind == .trailer {
      compare(with: trailer)
    } else {
      _ = moved(base, held)
    }
    _ = transmit(message(.summary))
    shutdown(descriptor, CTRACE_SHUT_WR)
  }

  // MARK: Messages

  private mutating func transmit(_ message: StreamMessage) -> Bool {
    let bytes = message.encoded
    var done = 0
    let deadline = ctrace_monotonic_ns() &+ min(timeout, 5_000_000_000)
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress! + done, bytes.count - done, CTRACE_MSG_DONTWAIT | CTRACE_MSG_NOSIGNAL)
      }
      if count > 0 {
        done += count
      } else if errno == EAGAIN {
        guard loop.pointee.wait(.writable, until: deadline) == .ready else { return false }
      } else if errno != EINTR {
        return false
      }
    }
    return true
  }

  /// The 40 bytes that come next, when they are a message; nil at the stream's end, too late, or for anything else.
  mutating func nextMessage(until deadline: Int64) -> StreamMessage? { firstBytes(until: deadline).message }

  /// Up to 40 bytes, and the message that they are.
  mutating func firstBytes(until deadline: Int64) -> (message: StreamMessage?, bytes: [UInt8]) {
    var bytes = [UInt8](repeating: 0, count: StreamMessage.byteCount)
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress! + done, $0.count - done, CTRACE_MSG_DONTWAIT) }
      if count > 0 {
        done += count
      } else if count == 0 {
        break
      } else if errno == EAGAIN {
        guard loop.pointee.wait(.readable, until: deadline) == .ready else { break }
      } else if errno != EINTR {
        break
      }
    }
    guard done == bytes.count else { return (nil, Array(bytes.prefix(done))) }
    return (bytes.withUnsafeBytes { StreamMessage($0.baseAddress!) }, bytes)
  }
}
