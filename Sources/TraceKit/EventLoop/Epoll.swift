import CTrace
import Glibc

/// One epoll(7) descriptor. All registrations are one-shot: they report once and then wait to be armed again.
struct Epoll: ~Copyable {
  let descriptor: Int32

  /// Bits of epoll's events; EPOLL* in <sys/epoll.h>. poll(2) and io_uring use the same numbers.
  enum Bits {
    static let readable: UInt32 = 0x1
    static let writable: UInt32 = 0x4
    static let error: UInt32 = 0x8
    static let hangUp: UInt32 = 0x10
    static let peerClosed: UInt32 = 0x2000
    fileprivate static let oneShot: UInt32 = 1 << 30
  }

  private enum Operation {
    static let add: Int32 = 1
    static let delete: Int32 = 2
    static let modify: Int32 = 3
  }

  init(_ faults: EventLoopFaults) throws(TraceError) {
    let forced = faults.epollSetUp?() ?? 0
    descriptor = forced == 0 ? ctrace_epoll_create() : -1
    guard descriptor >= 0 else {
      throw TraceError(path: "epoll", "set it up", errno: forced == 0 ? errno : forced)
    }
  }

  /// No epoll descriptor.
  private init() { descriptor = -1 }

  static var absent: Epoll { Epoll() }

  var isPresent: Bool { descriptor >= 0 }

  deinit {
    if descriptor >= 0 { close(descriptor) }
  }

  /// Waits for one report of `fd`; 0 or the errno. EPERM means that the descriptor is always ready, as regular files are.
  /// - Parameter isKnown: it was armed here before and may still be registered.
  func arm(_ fd: Int32, _ events: UInt32, data: UInt64, isKnown: Bool) -> Int32 {
    let first = isKnown ? Operation.modify : Operation.add
    let code = ctrace_epoll_control(descriptor, first, fd, events | Bits.oneShot, data)
    // It was closed in between and its number reused, or another registration of it is there still.
    if code == ENOENT, isKnown { return ctrace_epoll_control(descriptor, Operation.add, fd, events | Bits.oneShot, data) }
    if code == EEXIST, !isKnown { return ctrace_epoll_control(descriptor, Operation.modify, fd, events | Bits.oneShot, data) }
    return code
  }

  /// Forgets a descriptor; one that was closed is forgotten already.
  func forget(_ fd: Int32) { _ = ctrace_epoll_control(descriptor, Operation.delete, fd, 0, 0) }

  /// What is ready, waiting until `deadline` (CLOCK_MONOTONIC, nanoseconds; 0 for not at all). Signals end it early.
  @inline(__always)
  func wait(until deadline: Int64, into ready: UnsafeMutablePointer<ctrace_ready>, limit: Int) -> Int {
    Int(ctrace_epoll_wait(descriptor, ready, Int32(truncatingIfNeeded: min(limit, 64)), deadline))
  }
}
