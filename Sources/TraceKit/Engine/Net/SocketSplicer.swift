import CTrace
import Glibc

/// Moves a stream's bytes by vmsplice(2), a pipe and splice(2) instead of copying them into the socket.
///
/// A page given to vmsplice belongs to the kernel until the peer has acknowledged it: what is written to it earlier changes what
/// the peer receives. So memory that its owner writes to again is first copied into a ring of pages of its own, and a place in that
/// ring is used again only when the socket's unacknowledged bytes (SIOCOUTQ) have passed it. Memory that never changes goes as it is.
struct SocketSplicer: ~Copyable {
  private let socket: Int32
  private let readEnd: Int32
  private let writeEnd: Int32
  /// Capacity of the pipe, as the kernel rounded it.
  let pipeBytes: Int
  /// Bytes of one piece: a piece whose start lies inside a page needs one more of the pipe's places than its length says.
  private let pieceBytes: Int
  private let ring: UnsafeMutableRawPointer
  private let ringBytes: Int
  /// Ring positions only grow; their place is the remainder by `ringBytes`.
  private var ringHead = 0
  private var ringTail = 0
  private let entries: UnsafeMutablePointer<Entry>
  private static let entryLimit = 1024
  private var firstEntry = 0
  private var entryCount = 0
  /// Bytes that were handed to the socket.
  private(set) var sentBytes: UInt64 = 0
  private(set) var acknowledgementWaits: UInt64 = 0
  private let stable: UnsafeRawBufferPointer
  private var readsByCopy = false

  /// A used part of the ring: free again when the stream up to `streamEnd` is acknowledged.
  private struct Entry {
    var streamEnd: UInt64
    var ringEnd: Int
  }

  private static let pageBytes = 4096

  /// - Parameters:
  ///   - stable: memory that nobody writes to while this lives.
  ///   - ringBytes: pages for memory that is not stable.
  init(socket: Int32, label: String, pipeBytes wanted: Int?, stable: UnsafeRawBufferPointer, ringBytes: Int = 8 << 20) throws(TraceError) {
    var ends: [Int32] = [-1, -1]
    guard ctrace_pipe(&ends) == 0 else { throw TraceError(path: label, "make a pipe for --splice", errno: errno) }
    let asked = ctrace_set_pipe_size(ends[1], Int32(clamping: wanted ?? 1 << 20))
    if asked < 0, wanted != nil {
      let code = errno
      close(ends[0])
      close(ends[1])
      throw TraceError(
        path: label, "give its pipe \(ByteCount.text(UInt64(wanted!)))", errno: code, hint: "/proc/sys/fs/pipe-max-size limits it")
    }
    guard let memory = ctrace_map_memory(ringBytes) else {
      close(ends[0])
      close(ends[1])
      throw TraceError(path: label, "map \(ByteCount.text(UInt64(ringBytes)))", errno: ENOMEM)
    }
    self.socket = socket
    (readEnd, writeEnd) = (ends[0], ends[1])
    pipeBytes = Int(ctrace_pipe_size(ends[1]))
    pieceBytes = max(Self.pageBytes, min(pipeBytes - Self.pageBytes, ringBytes / 4))
    ring = memory
    self.ringBytes = ringBytes
    self.stable = stable
    entries = .allocate(capacity: Self.entryLimit)
    // splice(2) asks the socket's own flag whether it may wait.
    _ = fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK)
  }

  deinit {
    close(readEnd)
    close(writeEnd)
    munmap(ring, ringBytes)
    entries.deallocate()
  }

  // MARK: Sending

  /// Sends all of it.
  /// - Parameter deadline: moved on by `timeout` whenever something moved.
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
    var memory = buffer
    if !isStable(buffer, length) {
      let code = take(length, timeout, &memory)
      if code != 0 { return code }
      memcpy(memory, buffer, length)
      add(Entry(streamEnd: sentBytes &+ UInt64(length), ringEnd: ringHead))
    }
    var given = 0
    var inPipe = 0
    var deadline = ctrace_monotonic_ns() &+ timeout
    while given < length || inPipe > 0 {
      if given < length, inPipe < pipeBytes {
        let count = ctrace_pipe_vmsplice(writeEnd, memory + given, length - given, 0)
        if count > 0 {
          given += count
          inPipe += count
        } else if count < 0, errno != EAGAIN, errno != EINTR {
          return errno
        }
      }
      let count = ctrace_pipe_splice(readEnd, socket, inPipe, 0, more || given < length ? 1 : 0)
      if count > 0 {
        inPipe -= count
        sentBytes &+= UInt64(count)
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

  private func isStable(_ buffer: UnsafeMutableRawPointer, _ length: Int) -> Bool {
    guard let start = stable.baseAddress else { return false }
    return UnsafeRawPointer(buffer) >= start && UnsafeRawPointer(buffer) + length <= start + stable.count
  }

  // MARK: The ring of pages

  /// Room for `length` bytes in the ring, in one piece and from a page's start; waits for acknowledgements. 0 or an errno.
  private mutating func take(_ length: Int, _ timeout: Int64, _ memory: inout UnsafeMutableRawPointer) -> Int32 {
    let rounded = (length + Self.pageBytes - 1) / Self.pageBytes * Self.pageBytes
    let deadline = ctrace_monotonic_ns() &+ timeout
    while true {
      let place = ringHead % ringBytes
      let padding = place + rounded > ringBytes ? ringBytes - place : 0
      if ringHead + padding + rounded - ringTail <= ringBytes, entryCount < Self.entryLimit {
        memory = ring + (ringHead + padding) % ringBytes
        ringHead += padding + rounded
        return 0
      }
      let code = reclaim()
      if code != 0 { return code }
      if ringHead + padding + rounded - ringTail <= ringBytes, entryCount < Self.entryLimit { continue }
      // Acknowledgements have no event of their own.
      acknowledgementWaits &+= 1
      if ctrace_stop_signal() != 0 { return ECANCELED }
      if ctrace_monotonic_ns() > deadline { return ETIMEDOUT }
      ctrace_sleep_until(ctrace_monotonic_ns() &+ 50_000)
    }
  }

  private mutating func add(_ entry: Entry) {
    entries[(firstEntry + entryCount) % Self.entryLimit] = entry
    entryCount += 1
  }

  /// Frees what the peer has acknowledged. 0 or an errno.
  private mutating func reclaim() -> Int32 {
    let waiting = ctrace_unacknowledged(socket)
    guard waiting >= 0 else { return errno }
    let passed = sentBytes &- min(sentBytes, UInt64(waiting))
    while entryCount > 0, entries[firstEntry].streamEnd <= passed {
      ringTail = entries[firstEntry].ringEnd
      firstEntry = (firstEntry + 1) % Self.entryLimit
      entryCount -= 1
    }
    return 0
  }

  /// Waits until the peer has acknowledged everything, so that memory may be used for something else; false when it did not in time.
  mutating func waitUntilAcknowledged(timeout: Int64) -> Bool {
    let deadline = ctrace_monotonic_ns() &+ timeout
    while true {
      let waiting = ctrace_unacknowledged(socket)
      if waiting <= 0 { return waiting == 0 }
      if ctrace_monotonic_ns() > deadline { return false }
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
