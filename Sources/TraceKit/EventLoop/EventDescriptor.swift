import CTrace
import Glibc

/// An eventfd(2): a counter that is readable when it is not 0.
struct EventDescriptor: ~Copyable {
  let descriptor: Int32

  init() throws(TraceError) {
    descriptor = ctrace_event_descriptor()
    guard descriptor >= 0 else { throw TraceError(path: "eventfd", "make one", errno: errno) }
  }

  deinit { close(descriptor) }

  /// Sets the counter to 0.
  func clear() { ctrace_event_clear(descriptor) }

  /// Adds 1.
  func signal() { ctrace_event_signal(descriptor) }
}
