import CTrace
import Glibc

/// Connects, listens and accepts, within a time limit; the control plane of everything that talks over sockets. Sockets that it
/// gives are without blocking.
enum SocketSetup {
  /// How long a wait lasts before the stop signal is looked at.
  static let sliceMilliseconds: Int32 = 50

  /// Waits for a descriptor; false when the time is over. - Throws: when a stop signal came.
  static func wait(_ descriptor: Int32, for events: Int32, until deadline: Int64) throws(TraceError) -> Bool {
    while true {
      if ctrace_stop_signal() != 0 { throw TraceError(.refused, "stopped while waiting for the peer; nothing was replayed") }
      let left = deadline - ctrace_monotonic_ns()
      guard left > 0 else { return false }
      var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
      if poll(&entry, 1, min(sliceMilliseconds, Int32(clamping: left / 1_000_000 + 1))) > 0 { return true }
    }
  }

  // MARK: Connecting

  /// A connected socket; of several addresses of a name, the first that answers.
  static func connect(_ address: NetAddress, timeoutNanoseconds: Int64) throws(TraceError) -> Int32 {
    var failure = TraceError(.refused, "\(address.text): the host has no address")
    for candidate in try SocketAddress.resolve(address) {
      do throws(TraceError) {
        return try connect(candidate, address, ctrace_monotonic_ns() + timeoutNanoseconds, timeoutNanoseconds)
      } catch {
        if ctrace_stop_signal() != 0 { throw error }
        failure = error
      }
    }
    throw failure
  }

  private static func connect(
    _ candidate: SocketAddress, _ address: NetAddress, _ deadline: Int64, _ timeout: Int64
  ) throws(TraceError) -> Int32 {
    let descriptor = ctrace_socket(candidate.family, address.isDatagram ? 1 : 0, 0)
    guard descriptor >= 0 else { throw TraceError(path: address.text, "make a socket", errno: errno) }
    do throws(TraceError) {
      while true {
        if candidate.pointed({ Glibc.connect(descriptor, $0, candidate.length) }) == 0 { break }
        let code = errno
        if code == EINTR { continue }
        // A Unix socket whose listener is busy has no event to wait for.
        if code == EAGAIN {
          guard ctrace_monotonic_ns() < deadline else { throw silent(address, timeout) }
          ctrace_sleep_until(ctrace_monotonic_ns() + 5_000_000)
          continue
        }
        guard code == EINPROGRESS else { throw TraceError(path: address.text, "connect", errno: code, hint: hint(code, address)) }
        guard try wait(descriptor, for: POLLOUT, until: deadline) else { throw silent(address, timeout) }
        let result = ctrace_socket_error(descriptor)
        guard result == 0 else { throw TraceError(path: address.text, "connect", errno: result, hint: hint(result, address)) }
        break
      }
    } catch {
      close(descriptor)
      throw error
    }
    if !address.isUnix { ctrace_set_nodelay(descriptor) }
    return descriptor
  }

  private static func silent(_ address: NetAddress, _ timeout: Int64) -> TraceError {
    TraceError(
      .system(ETIMEDOUT), "\(address.text): cannot connect: no answer for \(DurationText.text(timeout)) (--timeout sets how long to wait)")
  }

  private static func hint(_ code: Int32, _ address: NetAddress) -> String {
    switch code {
    case ECONNREFUSED where address.isNBD: "no server listens there"
    case ECONNREFUSED: "nobody listens there; 'trace-replay serve' does, or --listen waits for the peer instead"
    case ENOENT: "there is no such socket; the peer makes it"
    default: ""
    }
  }

  // MARK: Listening

  /// A listening (or, for datagrams, bound) socket. A stale Unix socket that nobody listens on is replaced; anything else that
  /// exists at its path is left alone and refused.
  static func listen(_ address: NetAddress, backlog: Int32) throws(TraceError) -> Int32 {
    guard let own = try SocketAddress.resolve(address, passive: true).first else {
      throw TraceError(.refused, "\(address.text): no address to listen on")
    }
    let descriptor = ctrace_socket(own.family, address.isDatagram ? 1 : 0, 0)
    guard descriptor >= 0 else { throw TraceError(path: address.text, "make a socket", errno: errno) }
    if !address.isUnix { ctrace_set_reuse(descriptor) }
    if case .unix(let path) = address.transport { removeStale(path, own) }
    guard own.pointed({ bind(descriptor, $0, own.length) }) == 0, address.isDatagram || Glibc.listen(descriptor, backlog) == 0 else {
      let code = errno
      close(descriptor)
      throw TraceError(
        path: address.text, "listen", errno: code, hint: code == EADDRINUSE && address.isUnix ? "the path exists already" : "")
    }
    return descriptor
  }

  /// Removes a socket in the filesystem that refuses connections: its listener is gone.
  private static func removeStale(_ path: String, _ own: SocketAddress) {
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return }
    let probe = ctrace_socket(AF_UNIX, 0, 0)
    guard probe >= 0 else { return }
    defer { close(probe) }
    let refused = own.pointed { Glibc.connect(probe, $0, own.length) } != 0 && errno == ECONNREFUSED
    if refused { unlink(path) }
  }

  /// Accepts one peer; nil when nobody came in time.
  static func accept(_ listener: Int32, until deadline: Int64) throws(TraceError) -> (descriptor: Int32, peer: SocketAddress)? {
    while try wait(listener, for: POLLIN, until: deadline) {
      var peer = SocketAddress(storage: sockaddr_storage(), length: 0)
      let descriptor = ctrace_accept_peer(listener, &peer.storage, &peer.length)
      if descriptor >= 0 {
        if peer.family != AF_UNIX { ctrace_set_nodelay(descriptor) }
        return (descriptor, peer)
      }
      // The peer may be gone again before it was accepted.
      guard [EAGAIN, EINTR, ECONNABORTED].contains(errno) else { throw TraceError(path: "listener", "accept a peer", errno: errno) }
    }
    return nil
  }
}
