/// Failures that tests force on an event loop; nothing unless they say so. Asked where a ring is set up and where a descriptor is
/// armed on it, never for a request.
struct EventLoopFaults: Sendable {
  /// The errno with which setting up a ring of so many entries fails; 0 for none.
  var ringSetUp: (@Sendable (_ entries: Int) -> Int32)?
  /// Whether the ring shall refuse to poll a descriptor. The kernel really does: it is asked with flags that it does not know.
  var refusesPoll: (@Sendable (_ descriptor: Int32) -> Bool)?
  /// The errno with which making an epoll descriptor fails; 0 for none.
  var epollSetUp: (@Sendable () -> Int32)?
  /// What becomes readable at a stop signal instead of the process's own descriptor.
  var stopDescriptor: Int32?
}
