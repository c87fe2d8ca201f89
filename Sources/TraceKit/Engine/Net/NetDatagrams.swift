import CTrace
import Glibc

/// One direction of UDP: a datagram per request, each with a sequence number, and a message at the end that the receiver
/// recognises.
struct NetDatagrams: ~Copyable {
  let descriptor: Int32
  private let address: NetAddress
  private let timeout: Int64
  private let loop: UnsafeMutablePointer<SocketLoop>
  private(set) var tally: DatagramTally
  private let header: UnsafeMutableRawPointer
  /// The next sequence number, sent or expected.
  private var next: UInt64 = 0
  /// Datagrams whose number was passed over, less those that came later.
  private(set) var missing: UInt64 = 0
  private(set) var reordered: UInt64 = 0
  private(set) var foreign: UInt64 = 0
  private(set) var truncated: UInt64 = 0
  private(set) var waits: UInt64 = 0
  private(set) var failure: String?
  /// What the peer said at the end; nil when it said nothing.
  private(set) var peerTally: DatagramTally?
  private(set) var hasEnded = false

  init(_ descriptor: Int32, address: NetAddress, options: NetworkOptions, eventLoop: EventLoopChoice) throws(TraceError) {
    let waiting = try SocketLoop.make(descriptor, eventLoop)
    self.descriptor = descriptor
    self.address = address
    timeout = options.timeoutNanoseconds
    loop = waiting
    tally = DatagramTally(hasDigest: options.computesDigests)
    header = .allocate(byteCount: DatagramHeader.byteCount, alignment: 8)
  }

  deinit {
    loop.deinitialize(count: 1)
    loop.deallocate()
    header.deallocate()
  }

  /// The backend of the event loop.
  var eventLoopName: String { loop.pointee.backendName }

  // MARK: Meeting

  /// The connecting end: asks until the other answers. - Throws: when nobody does, or nobody is there.
  static func greet(_ descriptor: Int32, _ address: NetAddress, timeoutNanoseconds: Int64) throws(TraceError) {
    var bytes = [UInt8](repeating: 0, count: DatagramHeader.byteCount)
    bytes.withUnsafeMutableBytes { DatagramHeader(kind: .hello, sequence: 0).store(to: $0.baseAddress!) }
    let deadline = ctrace_monotonic_ns() + timeoutNanoseconds
    while ctrace_monotonic_ns() < deadline {
      if Glibc.send(descriptor, bytes, bytes.count, CTRACE_MSG_NOSIGNAL | CTRACE_MSG_DONTWAIT) < 0, errno == ECONNREFUSED {
        throw TraceError(path: address.text, "reach the peer", errno: ECONNREFUSED, hint: "nobody waits for datagrams there")
      }
      guard try SocketSetup.wait(descriptor, for: POLLIN, until: min(deadline, ctrace_monotonic_ns() + 200_000_000)) else { continue }
      var answer = [UInt8](repeating: 0, count: DatagramHeader.byteCount)
      // Left in the queue: it may be data already.
      let count = recv(descriptor, &answer, answer.count, CTRACE_MSG_DONTWAIT | CTRACE_MSG_PEEK)
      if count < 0, errno == ECONNREFUSED {
        throw TraceError(path: address.text, "reach the peer", errno: ECONNREFUSED, hint: "nobody waits for datagrams there")
      }
      if count >= DatagramHeader.byteCount, answer.withUnsafeBytes({ DatagramHeader($0.baseAddress!) }) != nil { return }
      if count >= 0 { _ = recv(descriptor, &answer, answer.count, CTRACE_MSG_DONTWAIT) }
    }
    throw TraceError(
      .system(ETIMEDOUT),
      "\(address.text): no answer for \(DurationText.text(timeoutNanoseconds)) (--timeout sets how long to wait)")
  }

  /// The waiting end: takes the first peer that asks, and that `isAllowed`. Nil when nobody came in time.
  static func await(
    _ descriptor: Int32, until deadline: Int64, isAllowed: (SocketAddress) -> Bool
  ) throws(TraceError) -> SocketAddress? {
    while try SocketSetup.wait(descriptor, for: POLLIN, until: deadline) {
      var bytes = [UInt8](repeating: 0, count: DatagramHeader.byteCount)
      var peer = SocketAddress(storage: sockaddr_storage(), length: socklen_t(MemoryLayout<sockaddr_storage>.size))
      let count = withUnsafeMutablePointer(to: &peer.storage) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { recvfrom(descriptor, &bytes, bytes.count, 0, $0, &peer.length) }
      }
      guard count == DatagramHeader.byteCount, let header = bytes.withUnsafeBytes({ DatagramHeader($0.baseAddress!) }),
        header.kind == .hello, isAllowed(peer)
      else { continue }
      guard peer.pointed({ connect(descriptor, $0, peer.length) }) == 0 else { continue }
      welcome(descriptor)
      return peer
    }
    return nil
  }

  private static func welcome(_ descriptor: Int32) {
    var bytes = [UInt8](repeating: 0, count: DatagramHeader.byteCount)
    bytes.withUnsafeMutableBytes { DatagramHeader(kind: .welcome, sequence: 0).store(to: $0.baseAddress!) }
    _ = Glibc.send(descriptor, bytes, bytes.count, CTRACE_MSG_NOSIGNAL | CTRACE_MSG_DONTWAIT)
  }

  // MARK: Sending

  /// Sends one datagram: its bytes, or −errno. −EMSGSIZE says that it is too large for one; it is not tried again.
  mutating func send(_ buffer: UnsafeMutableRawPointer?, _ length: Int) -> Int64 {
    if length > DatagramHeader.maximumDataBytes { return -Int64(EMSGSIZE) }
    DatagramHeader(kind: .data, sequence: next).store(to: header)
    let deadline = ctrace_monotonic_ns() &+ timeout
    while true {
      let count = ctrace_send_two(
        descriptor, header, DatagramHeader.byteCount, buffer, length, CTRACE_MSG_DONTWAIT | CTRACE_MSG_NOSIGNAL)
      if count >= 0 { break }
      switch errno {
      case EAGAIN, ENOBUFS:
        waits &+= 1
        switch loop.pointee.wait(.writable, until: deadline) {
        case .ready: continue
        case .timedOut: return fail(ETIMEDOUT)
        case .stopped: return -Int64(ECANCELED)
        }
      case EINTR: continue
      case EMSGSIZE: return -Int64(EMSGSIZE)
      case let code: return fail(code)
      }
    }
    add(buffer, length, sequence: next)
    next &+= 1
    return Int64(length)
  }

  private mutating func add(_ buffer: UnsafeMutableRawPointer?, _ length: Int, sequence: UInt64) {
    tally.datagrams &+= 1
    tally.bytes &+= UInt64(length)
    if tally.hasDigest { tally.digest &+= ctrace_digest_piece(buffer ?? header, length, sequence) }
  }

  // MARK: Receiving

  /// Receives one datagram into `buffer`: its bytes of data, or −errno: −EMSGSIZE for one that is longer than the request,
  /// −ENODATA when the peer has closed.
  mutating func receive(_ buffer: UnsafeMutableRawPointer?, _ length: Int) -> Int64 {
    if hasEnded { return ended() }
    var deadline = ctrace_monotonic_ns() &+ timeout
    while true {
      var flags = CTRACE_MSG_DONTWAIT | CTRACE_MSG_TRUNC
      let count = ctrace_receive_two(descriptor, header, DatagramHeader.byteCount, buffer, length, &flags)
      if count < 0 {
        switch errno {
        case EAGAIN:
          waits &+= 1
          switch loop.pointee.wait(.readable, until: deadline) {
          case .ready: continue
          case .timedOut: return fail(ETIMEDOUT)
          case .stopped: return -Int64(ECANCELED)
          }
        case EINTR: continue
        case let code: return fail(code)
        }
      }
      guard count >= DatagramHeader.byteCount, let head = DatagramHeader(header) else {
        foreign &+= 1
        continue
      }
      switch head.kind {
      case .data:
        let data = count - DatagramHeader.byteCount
        note(head.sequence)
        if data > length {
          truncated &+= 1
          tally.datagrams &+= 1
          tally.hasDigest = false
          return -Int64(EMSGSIZE)
        }
        add(buffer, data, sequence: head.sequence)
        return Int64(data)
      case .hello: Self.welcome(descriptor)
      case .welcome: break
      case .close:
        if count - DatagramHeader.byteCount >= DatagramTally.byteCount, length >= DatagramTally.byteCount, let buffer {
          peerTally = DatagramTally(buffer)
        }
        closed(head.sequence)
        return ended()
      case .summary: foreign &+= 1
      }
      deadline = ctrace_monotonic_ns() &+ timeout
    }
  }

  /// Counts what a sequence number says about the ones before it.
  private mutating func note(_ sequence: UInt64) {
    if sequence >= next {
      // A gap beyond reason is not loss but a foreign sender's number.
      missing &+= min(sequence &- next, 1 << 40)
      next = sequence &+ 1
    } else {
      reordered &+= 1
      if missing > 0 { missing -= 1 }
    }
  }

  private mutating func closed(_ sent: UInt64) {
    hasEnded = true
    if sent > next {
      missing &+= min(sent &- next, 1 << 40)
      next = sent
    }
    answer()
  }

  /// Tells the peer what arrived; more than once, since this may be lost as well.
  private func answer() {
    var bytes = [UInt8](repeating: 0, count: DatagramHeader.byteCount + DatagramTally.byteCount)
    bytes.withUnsafeMutableBytes { buffer in
      DatagramHeader(kind: .summary, sequence: next).store(to: buffer.baseAddress!)
      tally.store(to: buffer.baseAddress! + DatagramHeader.byteCount)
    }
    for _ in 0..<3 { _ = Glibc.send(descriptor, bytes, bytes.count, CTRACE_MSG_NOSIGNAL | CTRACE_MSG_DONTWAIT) }
  }

  private mutating func ended() -> Int64 {
    failure = "\(address.text): the peer closed after \(tally.datagrams) datagrams arrived and \(missing) were lost; the trace reads more"
    return -Int64(ENODATA)
  }

  @inline(never)
  private mutating func fail(_ code: Int32) -> Int64 {
    let so = "after \(tally.datagrams) datagrams"
    switch code {
    case ETIMEDOUT:
      failure = "\(address.text): nothing moved for \(DurationText.text(timeout)), \(so); --timeout sets how long to wait"
    case ECONNREFUSED: failure = "\(address.text): nobody takes datagrams there any more, \(so)"
    default: failure = "\(address.text): \(String(cString: strerror(code))), \(so)"
    }
    return -Int64(code)
  }

  // MARK: The end

  /// The sending end has nothing more: says so until the peer answers with what it received.
  mutating func finishSending() {
    guard failure == nil else { return }
    var bytes = [UInt8](repeating: 0, count: DatagramHeader.byteCount + DatagramTally.byteCount)
    bytes.withUnsafeMutableBytes { buffer in
      DatagramHeader(kind: .close, sequence: next).store(to: buffer.baseAddress!)
      tally.store(to: buffer.baseAddress! + DatagramHeader.byteCount)
    }
    let deadline = ctrace_monotonic_ns() &+ min(timeout, 5_000_000_000)
    while ctrace_monotonic_ns() < deadline {
      if Glibc.send(descriptor, bytes, bytes.count, CTRACE_MSG_NOSIGNAL | CTRACE_MSG_DONTWAIT) < 0, errno == ECONNREFUSED { break }
      guard loop.pointee.wait(.readable, until: min(deadline, ctrace_monotonic_ns() &+ 100_000_000)) != .stopped else { break }
      while let summary = nextSummary() { peerTally = summary }
      if peerTally != nil { break }
    }
    guard let peer = peerTally else {
      failure = "\(address.text): the peer did not confirm what it received"
      return
    }
    if peer.datagrams == tally.datagrams, peer.hasDigest, tally.hasDigest, peer.digest != tally.digest {
      failure = "\(address.text): what was received is not what was sent: the digests differ"
    }
  }

  private func nextSummary() -> DatagramTally? {
    var bytes = [UInt8](repeating: 0, count: DatagramHeader.byteCount + DatagramTally.byteCount)
    while true {
      let count = recv(descriptor, &bytes, bytes.count, CTRACE_MSG_DONTWAIT)
      if count < 0 { return nil }
      let summary = bytes.withUnsafeBytes { buffer -> DatagramTally? in
        guard count == buffer.count, let head = DatagramHeader(buffer.baseAddress!), head.kind == .summary else { return nil }
        return DatagramTally(buffer.baseAddress! + DatagramHeader.byteCount)
      }
      if let summary { return summary }
    }
  }

  /// The receiving end wants nothing more: waits a moment for the close message, and answers it.
  mutating func finishReceiving() {
    guard failure == nil || hasEnded else { return }
    let scratch = UnsafeMutableRawPointer.allocate(byteCount: DatagramHeader.maximumDataBytes, alignment: 8)
    defer { scratch.deallocate() }
    let known = tally
    let deadline = ctrace_monotonic_ns() &+ min(timeout, 2_000_000_000)
    while !hasEnded, ctrace_monotonic_ns() < deadline {
      guard loop.pointee.wait(.readable, until: deadline) == .ready else { break }
      // What comes beyond the trace's last read is no part of it.
      if receive(scratch, DatagramHeader.maximumDataBytes) < 0 { break }
    }
    let extra = tally.datagrams - known.datagrams
    if hasEnded { failure = nil }
    if extra > 0 { failure = "\(address.text): \(extra) datagrams more came than the trace reads" }
    // The peer repeats its question when the answer was lost.
    let linger = ctrace_monotonic_ns() &+ 150_000_000
    while hasEnded, loop.pointee.wait(.readable, until: linger) == .ready {
      var flags = CTRACE_MSG_DONTWAIT
      guard ctrace_receive_two(descriptor, header, DatagramHeader.byteCount, scratch, 64, &flags) >= 0 else { break }
      if let head = DatagramHeader(header), head.kind == .close { answer() }
    }
  }

  /// What became of what was sent, as the peer says.
  var comparison: String {
    guard let peer = peerTally else { return "the peer gave none" }
    if peer.datagrams != tally.datagrams { return "not comparable: \(tally.datagrams) datagrams here, \(peer.datagrams) at the peer" }
    guard peer.hasDigest, tally.hasDigest else { return "not comparable: not computed at both ends" }
    return peer.digest == tally.digest ? "equal at both ends" : "DIFFERENT"
  }
}
