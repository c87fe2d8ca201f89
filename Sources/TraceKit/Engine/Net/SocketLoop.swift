import CTrace
import Glibc

/// The event loop of one socket: waits until it is ready, or until a send or receive on the loop's ring has ended.
struct SocketLoop: ~Copyable {
  enum Outcome { case ready, timedOut, stopped }

  let descriptor: Int32
  private var loop: EventLoop
  private let registration: EventLoop.Registration
  private let events: UnsafeMutablePointer<EventLoop.Event>
  private let completions: UnsafeMutablePointer<EventLoop.Completion>
  private static let room = 8
  /// Waits are cut to this, so that a stop signal is seen whoever took it.
  private static let sliceNanoseconds: Int64 = 50_000_000
  private static let transferData: UInt64 = 1
  private static let cancellationData: UInt64 = 2

  init(_ descriptor: Int32, _ choice: EventLoopChoice) throws(TraceError) {
    self.descriptor = descriptor
    var loop = try EventLoop(choice, entries: Self.room)
    registration = try loop.register(descriptor, token: 0)
    self.loop = loop
    events = .allocate(capacity: Self.room)
    completions = .allocate(capacity: Self.room)
  }

  deinit {
    events.deallocate()
    completions.deallocate()
  }

  /// One in memory of its own: engines that hold it by a pointer stay small, and it is never moved.
  static func make(_ descriptor: Int32, _ choice: EventLoopChoice) throws(TraceError) -> UnsafeMutablePointer<SocketLoop> {
    let loop = try SocketLoop(descriptor, choice)
    let pointer = UnsafeMutablePointer<SocketLoop>.allocate(capacity: 1)
    pointer.initialize(to: loop)
    return pointer
  }

  /// The backend in use.
  var backendName: String { loop.backendName }
  /// Sends and receives can be ring operations.
  var hasRing: Bool { loop.hasRing }

  /// Waits until the socket takes or gives something, has an error or hung up.
  /// - Parameter deadline: CLOCK_MONOTONIC, nanoseconds.
  mutating func wait(_ interest: EventLoop.Interest, until deadline: Int64) -> Outcome {
    loop.arm(registration, interest)
    while true {
      if ctrace_stop_signal() != 0 { return .stopped }
      let now = ctrace_monotonic_ns()
      if now >= deadline { return .timedOut }
      if loop.wait(until: min(deadline, now &+ Self.sliceNanoseconds), into: events, capacity: Self.room) > 0 { return .ready }
    }
  }

  /// send(2) or recv(2) with `flags` as a ring operation: one at a time, since a stream's bytes have an order.
  /// - Returns: bytes, −errno; −ETIMEDOUT after `deadline`, −ECANCELED when a stop signal came.
  mutating func transfer(_ buffer: UnsafeMutableRawPointer, _ length: Int, isSend: Bool, flags: Int32, until deadline: Int64) -> Int {
    guard let entry = loop.nextRequest() else { return -Int(EBUSY) }
    if isSend {
      io_uring_prep_send(entry, descriptor, buffer, length, flags)
    } else {
      io_uring_prep_recv(entry, descriptor, buffer, length, flags)
    }
    entry.pointee.user_data = Self.transferData
    var reason: Int32?
    var result: Int?
    var outstanding = 1
    while true {
      let now = ctrace_monotonic_ns()
      let counts = loop.wait(
        until: min(max(deadline, now &+ 1_000_000), now &+ Self.sliceNanoseconds), into: events, capacity: Self.room,
        completions: completions, limit: Self.room)
      for i in 0..<counts.completions {
        outstanding -= 1
        if completions[i].user_data == Self.transferData { result = Int(completions[i].result) }
      }
      if outstanding == 0, let result {
        if let reason, result == -Int(ECANCELED) || result == -Int(EINTR) { return -Int(reason) }
        return result
      }
      guard reason == nil, result == nil else { continue }
      let isStopped = ctrace_stop_signal() != 0
      guard isStopped || ctrace_monotonic_ns() >= deadline else { continue }
      // The kernel still owns the buffer: it is asked to give it back, and answers with the transfer's own completion.
      if let entry = loop.nextRequest() {
        io_uring_prep_cancel64(entry, Self.transferData, 0)
        entry.pointee.user_data = Self.cancellationData
        outstanding += 1
        reason = isStopped ? ECANCELED : ETIMEDOUT
      }
    }
  }
}
