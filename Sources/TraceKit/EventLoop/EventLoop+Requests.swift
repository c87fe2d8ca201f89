import CTrace

/// Requests that engines put on the loop's ring themselves: on files, or sends and receives. Their completions come from `wait`,
/// beside the events.
extension EventLoop {
  /// A free submission entry, for one request; nil without a ring, when nothing more is taken now, and while the ring is about to be
  /// replaced by a larger one: wait, and ask again. The entry has to be filled in before the next call of the loop; `ownBit` of its
  /// user data stays clear.
  @inline(__always)
  mutating func nextRequest() -> UnsafeMutablePointer<io_uring_sqe>? {
    guard ring.isPresent, growthDeadline == 0, forks == ctrace_fork_generation(), let entry = ring.nextEntry() else { return nil }
    requestsInFlight &+= 1
    return entry
  }

  /// Submits what was put on the ring, without waiting for anything; the next wait does it as well.
  mutating func submitRequests() {
    guard ring.isPresent, forks == ctrace_fork_generation() else { return }
    ring.submit()
  }

  /// Whether the ring's kernel has an operation (IORING_OP_* number).
  func supports(operation: Int32) -> Bool { ring.isPresent && ring.supports(operation: operation) }
}
