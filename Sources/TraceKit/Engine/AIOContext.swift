import CTrace
import Glibc

/// A kernel context of Linux's asynchronous I/O (io_setup(2) and its kin, through libaio). The system has room for a limited number
/// of requests in all contexts together (/proc/sys/fs/aio-max-nr), so one that is not needed is released.
struct AIOContext: ~Copyable {
  private var context: OpaquePointer?
  private let requests: Int
  /// The errno that setting one up or submitting shall fail with, for tests; 0 for none.
  let faults: AIOFaults

  /// No context yet.
  init(requests: Int, faults: AIOFaults) {
    self.requests = requests
    self.faults = faults
  }

  deinit {
    if let context { io_destroy(context) }
  }

  var isSetUp: Bool { context != nil }

  /// Sets it up where it is not; 0 or the errno.
  mutating func setUp() -> Int32 {
    if context != nil { return 0 }
    if let code = faults.setUp?(), code != 0 { return code }
    return -io_setup(Int32(requests), &context)
  }

  /// Gives it back to the system; nothing may be in flight.
  mutating func release() {
    if let context { io_destroy(context) }
    context = nil
  }

  /// Hands a batch to the kernel.
  /// - Returns: how many it took of its front, at least 1, or −errno, which is the first one's.
  @inline(__always)
  func submit(_ blocks: UnsafeMutablePointer<UnsafeMutablePointer<iocb>?>, _ count: Int) -> Int {
    if faults.submit != nil { return submitFaulty(blocks, count) }
    return Int(io_submit(context, count, blocks))
  }

  @inline(never)
  private func submitFaulty(_ blocks: UnsafeMutablePointer<UnsafeMutablePointer<iocb>?>, _ count: Int) -> Int {
    let allowed = faults.submit!(count)
    return allowed <= 0 ? allowed : Int(io_submit(context, min(count, allowed), blocks))
  }

  /// Takes completions.
  /// - Parameter deadline: CLOCK_MONOTONIC in nanoseconds until which the first one is waited for; 0 not to wait.
  @inline(__always)
  func reap(_ events: UnsafeMutablePointer<io_event>, limit: Int, until deadline: Int64) -> Int {
    guard context != nil else { return 0 }
    let wait = deadline == 0 ? 0 : max(0, deadline &- ctrace_monotonic_ns())
    var timeout = timespec(tv_sec: Int(wait / 1_000_000_000), tv_nsec: Int(wait % 1_000_000_000))
    // libaio makes no call for an empty queue that is not waited for.
    return max(0, Int(io_getevents(context, deadline == 0 ? 0 : 1, limit, events, &timeout)))
  }

  /// Why this machine has none; nil when it has.
  static func unavailability() -> String? {
    var probe: OpaquePointer?
    let code = -io_setup(1, &probe)
    guard code != 0 else {
      io_destroy(probe)
      return nil
    }
    return "Linux AIO: \(reason(code))"
  }

  /// A sentence about an errno of io_setup.
  static func reason(_ code: Int32) -> String {
    switch code {
    case ENOSYS: return "this kernel has none"
    case EAGAIN:
      let used = SmallFile.line("/proc/sys/fs/aio-nr") ?? "?"
      let limit = SmallFile.line("/proc/sys/fs/aio-max-nr") ?? "?"
      return "\(used) of the system's \(limit) requests are taken; /proc/sys/fs/aio-max-nr is the limit, a lower --iodepth needs less"
    default: return String(cString: strerror(code))
    }
  }
}
