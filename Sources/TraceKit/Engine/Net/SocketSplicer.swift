import CTrace
import Glibc

/// Moves a stream's bytes by vmsplice(2), a pipe and splice(2) instead of copying them into the socket.
///
/// A page given to vmsplice is the kernel's until the peer has taken it: what is written to it earlier changes what the peer
/// receives. Acknowledgements do not tell (SIOCOUTQ): on a loopback connection acknowledged bytes still lie in the sender's pages until
/// the peer's program reads them. So only memory that nobody writes to is spliced, as a replay's payload is; everything else is copied.
struct SocketSplicer: ~Copyable {
  private let socket: Int32
  private let readEnd: Int32
  private let writeEnd: Int32
  /// Capacity of the pipe, as the kernel rounded it.
  let pipeBytes: Int
  /// Bytes of one piece: a piece whose start lies inside a page needs one more of the pipe's places than its length says.
  private let pieceBytes: Int
  private let stable: UnsafeRawBufferPointer
  private var readsByCopy = false

  private static let pageBytes = 4096

  /// - Parameter stable: memory that nobody writes to while this lives.
  init(socket: Int32, label: String, stable: UnsafeRawBufferPointer) throws(TraceError) {
    var ends: [Int32] = [-1, -1]
    guard ctrace_pipe(&ends) == 0 else { throw TraceError(path: label, "make a pipe for --splice", errno: errno) }
    // As large as anybody may make one; where that is refused, as large as it is.
    _ = ctrace_set_pipe_size(ends[1], 1 << 20)
    self.socket = socket
    (readEnd, writeEnd) = (ends[0], ends[1])
    pipeBytes = Int(ctrace_pipe_size(ends[1]))
    pieceBytes = max(Self.pageBytes, pipeBytes - Self.pageBytes)
    self.stable = stable
    // splice(2) asks the socket's own flag whether it may wait.
    _ = fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK)
    // Unlike send(2), splice(2) has no flag against it: a peer that is gone is an error of the call, not the end of the process.
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGPIPE)
    pthread_sigmask(SIG_BLOCK, &signals, nil)
  }

  deinit {
    close(readEnd)
    close(writeEnd)
  }

  // MARK: Sending

  /// Sends all of it; only memory that `isStable`.
  /// - Parameter timeout: how long it may take until something moves.
  /// - Returns: the bytes, or −errno (−ETIMEDOUT, −ECANCELED as `SocketLoop` says).
  mutating func send(
    _ buffer: UnsafeMutableRawPointer, _ length: Int, more: Bool, timeout: Int64, loop: UnsafeMutablePointer<SocketLoop>,
    resumed: inout UInt64
  ) -> Int {
    var done = 0
    while done < length {
      let piece = min(pieceBytes, length - done)
      let code = sendPiece(buffer + done, piece, more: more || done + piece < length, timeout, loop, &resumed)
      if code != 0 { return -Int(code) }
      done += piece
    }
    return done
  }

  private mutating func sendPiece(
    _ buffer: UnsafeMutableRawPointer, _ length: Int, more: Bool, _ timeout: Int64, _ loop: UnsafeMutablePointer<SocketLoop>,
    _ resumed: inout UInt64
  ) -> Int32 {
    var given = 0
    var inPipe = 0
    var deadline = ctrace_monotonic_ns() &+ timeout
    while given < length || inPipe > 0 {
      if given < length, inPipe < pipeBytes {
        let count = ctrace_pipe_vmsplice(writeEnd, buffer + given, length - given, 0)
        if count > 0 {
          given += count
          inPipe += count
        } else if count < 0, errno != EAGAIN, errno != EINTR {
          return errno
        }
      }
      if inPipe == 0 { continue }
      let count = ctrace_pipe_splice(readEnd, socket, inPipe, 0, more || given < length ? 1 : 0)
      if count > 0 {
        inPipe -= count
        if inPipe > 0 { resumed &+= 1 }
        deadline = ctrace_monotonic_ns() &+ timeout
      } else if count < 0, errno == EAGAIN {
        switch loop.pointee.wait(.writable, until: deadline) {
        case .ready: break
        case .timedOut: return ETIMEDOUT
        case .stopped: return ECANCELED
        }
      } else if count < 0, errno != EINTR {
        return errno
      } else if count == 0 {
        return EPIPE
      }
    }
    return 0
  }

  /// Nobody writes to this memory.
  func isStable(_ buffer: UnsafeMutableRawPointer, _ length: Int) -> Bool {
    guard let start = stable.baseAddress else { return false }
    return UnsafeRawPointer(buffer) >= start && UnsafeRawPointer(buffer) + length <= start + stable.count
  }

  /// Waits until the peer's system has everything, so that memory may go; false when it had not in time.
  func waitUntilAcknowledged(timeout: Int64) -> Bool {
    let deadline = ctrace_monotonic_ns() &+ timeout
    while true {
      let waiting = ctrace_unacknowledged(socket)
      if waiting <= 0 { return waiting == 0 }
      if ctrace_stop_signal() != 0 || ctrace_monotonic_ns() > deadline { return false }
      ctrace_sleep_until(ctrace_monotonic_ns() &+ 100_000)
    }
  }

  // MARK: Receiving

  /// Up to `length` bytes without waiting: bytes, 0 at the stream's end, or −errno.
  mutating func receive(_ buffer: UnsafeMutableRawPointer, _ length: Int) -> Int {
    let inPipe = ctrace_pipe_splice(socket, writeEnd, min(length, pieceBytes), 0, 0)
    if inPipe < 0 { return -Int(errno) }
    var done = 0
    while done < inPipe {
      var count = -1
      if !readsByCopy {
        count = ctrace_pipe_vmsplice(readEnd, buffer + done, inPipe - done, 0)
        // Kernels without vmsplice to memory: EBADF; memory that it does not take: EFAULT.
        if count < 0, errno == EBADF || errno == EFAULT || errno == EINVAL { readsByCopy = true }
      }
      if readsByCopy { count = read(readEnd, buffer + done, inPipe - done) }
      if count < 0, errno == EINTR || errno == EAGAIN { continue }
      guard count > 0 else { return count == 0 ? -Int(ENODATA) : -Int(errno) }
      done += count
    }
    return done
  }

  /// Which way the pipe's content reaches memory.
  var receivesBy: String { readsByCopy ? "read" : "vmsplice" }
}
