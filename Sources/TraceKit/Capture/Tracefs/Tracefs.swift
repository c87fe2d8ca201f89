import CTrace
import Glibc

/// The kernel's tracing filesystem.
///
/// Where it is not mounted it is mounted for this process alone, at no place, and is gone with the process.
final class Tracefs {
  /// The path of its root.
  let root: String
  private let descriptor: Int32

  /// - Parameter purpose: what needs it, for the sentence that says what is missing (`trace-record attach`).
  /// - Throws: when the kernel has no tracefs, or this user may not use it.
  init(purpose: String) throws(TraceError) {
    for path in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] where access("\(path)/instances", F_OK) == 0 {
      root = path
      descriptor = -1
      guard access("\(path)/instances", W_OK | X_OK) == 0 else { throw Self.forbidden(purpose) }
      return
    }
    let mounted = ctrace_detached_mount("tracefs")
    guard mounted >= 0 else {
      if errno == EPERM || errno == EACCES { throw Self.forbidden(purpose) }
      throw TraceError(
        path: "tracefs", "open it", errno: errno,
        hint: "\(purpose) needs a kernel with CONFIG_FTRACE_SYSCALLS and CONFIG_BLK_DEV_IO_TRACE; 'trace-record run' does without")
    }
    descriptor = mounted
    root = "/proc/self/fd/\(mounted)"
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  private static func forbidden(_ purpose: String) -> TraceError {
    TraceError(
      .refused,
      "\(purpose) needs write access to tracefs (/sys/kernel/tracing), which this user does not have: run it as root; "
        + "'trace-record run' records a program that it starts itself, without privileges")
  }

  /// The format of an event, or nil when this kernel has no such event.
  func format(_ system: String, _ event: String) throws(TraceError) -> TraceEventFormat? {
    guard let text = SmallFile.text("\(root)/events/\(system)/\(event)/format") else { return nil }
    return try TraceEventFormat(text, event: "\(system)/\(event)")
  }

  /// The layout of a page of a CPU's buffer.
  func pageLayout() throws(TraceError) -> RingPageLayout {
    guard let text = SmallFile.text("\(root)/events/header_page") else {
      throw TraceError(path: "\(root)/events/header_page", "read it", errno: errno)
    }
    return try RingPageLayout(text)
  }
}
