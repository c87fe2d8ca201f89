import CTrace
import Glibc

/// Waits for descriptors to become ready, for points in time, for the stop signal, and for requests that an engine put on the ring.
/// Two backends of one shape: io_uring, and epoll where the kernel has no io_uring or the user chose it. One thread owns it.
///
/// A descriptor is registered, and then armed for what is waited for; it reports once, and is armed again when more is wanted.
/// Timers are absolute: a wait ends at a time of CLOCK_MONOTONIC, and what is due next is the caller's to know. The stop signal
/// ends a wait early; `StopSignal.received` tells.
///
/// After fork(2) a child that uses the loop gets a ring and an epoll descriptor of its own, with everything armed that was armed;
/// the parent's are left alone. Requests that were on the ring stay the parent's.
struct EventLoop: ~Copyable {
  /// What a descriptor is waited for.
  struct Interest: OptionSet, BitwiseCopyable, Sendable {
    let rawValue: UInt32
    static let readable = Interest(rawValue: Epoll.Bits.readable)
    static let writable = Interest(rawValue: Epoll.Bits.writable)
    /// The bits to wait for. Who only writes is not woken by a peer that has only stopped sending: it would be for ever.
    var bits: UInt32 { contains(.readable) ? rawValue | Epoll.Bits.peerClosed : rawValue }
  }

  /// A descriptor that the loop knows. Of no effect once it was unregistered, or another with the same number registered.
  struct Registration: BitwiseCopyable, Sendable {
    let index: Int32
    let generation: UInt32
  }

  /// A descriptor that became ready. It has to be armed again for another.
  struct Event: BitwiseCopyable, Sendable {
    /// What it was registered with.
    let token: UInt64
    let bits: UInt32
    /// An error or a hang-up counts as ready in both directions: the call that follows tells which it is.
    var isReadable: Bool { bits & (Epoll.Bits.readable | Epoll.Bits.peerClosed) != 0 || isBroken }
    var isWritable: Bool { bits & Epoll.Bits.writable != 0 || isBroken }
    /// POLLERR or POLLHUP.
    var isBroken: Bool { bits & (Epoll.Bits.error | Epoll.Bits.hangUp) != 0 }
    /// The peer closed, or shut down the direction that is read here (POLLRDHUP); data may still be there to be read.
    var isPeerClosed: Bool { bits & (Epoll.Bits.peerClosed | Epoll.Bits.hangUp) != 0 }
  }

  /// A request's end, as the ring reported it: its user data, its result and IORING_CQE_F_* flags.
  typealias Completion = ctrace_completion

  /// Requests of engines have this bit of their user data clear.
  static let ownBit: UInt64 = 1 << 63
  /// User data of requests that remove others: nobody waits for them.
  static let removal = UInt64.max
  /// User data of the poll of the epoll descriptor, with a generation below.
  static let nested: UInt64 = 1 << 62
  /// Longest time that growing waits for requests in flight; requests that end when a peer pleases may be among them.
  static let growthPatienceNanoseconds: Int64 = 1_000_000_000

  var ring: Ring
  var epoll: Epoll
  var table = DescriptorTable()
  let faults: EventLoopFaults
  let scratch: UnsafeMutablePointer<Completion>
  let ready: UnsafeMutablePointer<ctrace_ready>
  /// Room in `scratch` and `ready`.
  static let scratchCount = 64
  /// Rows with an event that the loop owes.
  var owed: [Int] = []
  var stopIndex = -1
  var forks: Int32
  /// Tells polls of the epoll descriptor apart.
  var nestedGeneration: UInt64 = 0
  var isNestedArmed = false
  /// Epoll may have something.
  var epollIsReady = false
  /// Readiness has moved to epoll; the ring, if there is one, takes requests only.
  var readinessIsOnEpoll: Bool
  /// The completion queue overflowed and the ring is to grow, by this time; 0 when it is not.
  var growthDeadline: Int64 = 0
  /// Something beside the ring has to be looked at by the next wait.
  var needsAttention: Bool
  /// Requests of engines that are on the ring.
  var requestsInFlight = 0
  /// Times that the ring was replaced by a larger one.
  var growths = 0
  /// Why there is no ring although one was wanted, or nil.
  var fallbackReason: String?

  /// - Parameters:
  ///   - choice: with `automatic` and `ioUring` a ring is set up; when it cannot be, readiness is left to epoll (`fallbackReason`).
  ///   - entries: requests and armed descriptors that are expected at a time; the ring grows when there are more.
  init(_ choice: EventLoopChoice, entries: Int, faults: EventLoopFaults = EventLoopFaults()) throws(TraceError) {
    var reason: String?
    let ring = choice == .epoll ? Ring.absent : Self.makeRing(entries, faults, &reason)
    try self.init(ring: ring, fallbackReason: reason, faults: faults)
  }

  /// A loop on a ring that the caller has set up.
  init(_ ring: consuming Ring, faults: EventLoopFaults = EventLoopFaults()) throws(TraceError) {
    try self.init(ring: ring, fallbackReason: nil, faults: faults)
  }

  /// A ring, or none with the reason.
  private static func makeRing(_ entries: Int, _ faults: EventLoopFaults, _ reason: inout String?) -> Ring {
    do throws(TraceError) {
      return try Ring(entries: entries, setUpFault: faults.ringSetUp)
    } catch {
      reason = error.message
      return .absent
    }
  }

  private init(ring: consuming Ring, fallbackReason: String?, faults: EventLoopFaults) throws(TraceError) {
    ctrace_count_forks()
    forks = ctrace_fork_generation()
    self.faults = faults
    self.fallbackReason = fallbackReason
    let isOnEpoll = !ring.isPresent
    epoll = isOnEpoll ? try Epoll(faults) : .absent
    readinessIsOnEpoll = isOnEpoll
    needsAttention = isOnEpoll
    self.ring = ring
    scratch = .allocate(capacity: Self.scratchCount)
    ready = .allocate(capacity: Self.scratchCount)
    let stop = faults.stopDescriptor ?? ctrace_stop_descriptor()
    if stop >= 0 {
      stopIndex = table.add(stop, token: 0)
      arm(stopIndex, .readable)
    }
  }

  deinit {
    scratch.deallocate()
    ready.deallocate()
  }

  /// The backend in use, for reports.
  var backendName: String { ring.isPresent ? readinessIsOnEpoll ? "io_uring, readiness on epoll" : "io_uring" : "epoll" }

  /// It has a ring, which takes requests.
  var hasRing: Bool { ring.isPresent }

  /// Submission entries of the ring; 0 without one.
  var ringEntries: Int { ring.entries }

  /// Times that a wait entered the kernel for the ring.
  var ringCalls: UInt64 { ring.calls }

  // MARK: Descriptors

  /// Makes the loop know a descriptor, which is not armed yet. A registration of the same descriptor that is there is replaced: the
  /// number was closed and used again.
  /// - Parameter token: comes back with its events.
  mutating func register(_ descriptor: Int32, token: UInt64) throws(TraceError) -> Registration {
    if forks != ctrace_fork_generation() { adoptAfterFork() }
    guard descriptor >= 0, fcntl(descriptor, F_GETFD) >= 0 else {
      throw TraceError(path: "descriptor \(descriptor)", "wait for it", errno: EBADF)
    }
    if let old = table.index(of: descriptor) { forget(old) }
    let index = table.add(descriptor, token: token)
    return Registration(index: Int32(index), generation: table.rows[index].generation)
  }

  /// Waits for `interest` from now on, once; replaces what it was armed for. With an empty interest it waits for nothing.
  @inline(__always)
  mutating func arm(_ registration: Registration, _ interest: Interest) {
    guard table.isCurrent(Int(registration.index), registration.generation) else { return }
    arm(Int(registration.index), interest)
  }

  /// Forgets a descriptor, before or after it is closed. Its events that are under way come to nobody.
  mutating func unregister(_ registration: Registration) {
    guard table.isCurrent(Int(registration.index), registration.generation) else { return }
    forget(Int(registration.index))
  }

}
