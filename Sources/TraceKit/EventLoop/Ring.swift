import CTrace
import Glibc

/// One io_uring: set-up with what the kernel has, registration, submission and completion. Owned by the thread that made it.
struct Ring: ~Copyable {
  private let ring: UnsafeMutablePointer<io_uring>
  /// There is one; nothing may be asked of one that there is not.
  let isPresent: Bool
  /// Entries of the submission queue; the completion queue has at least twice as many.
  let entries: Int
  /// The set-up flags in use, as the manual names them, lower case.
  let features: [String]
  private var pending = 0
  /// Times that the kernel was entered.
  private(set) var calls: UInt64 = 0
  private let submissionPolling: Bool
  private let completionPolling: Bool
  /// What was registered, for a ring that takes this one's place.
  private var files: [Int32] = []
  private var buffers: [UnsafeMutableRawBufferPointer] = []

  /// - Parameters:
  ///   - entries: operations in flight; rounded up to a power of two.
  ///   - submissionPolling: IORING_SETUP_SQPOLL.
  ///   - completionPolling: IORING_SETUP_IOPOLL; the ring takes reads and writes with O_DIRECT only.
  ///   - setUpFault: an errno that setting up a ring of so many entries is to fail with, for tests.
  init(
    entries wanted: Int, submissionPolling: Bool = false, completionPolling: Bool = false,
    setUpFault: (@Sendable (_ entries: Int) -> Int32)? = nil
  ) throws(TraceError) {
    ring = .allocate(capacity: 1)
    self.submissionPolling = submissionPolling
    self.completionPolling = completionPolling
    var size = 1
    while size < wanted { size *= 2 }
    var plans: [(UInt32, [String])] = []
    let polling: UInt32 = completionPolling ? 1 << 0 : 0  // IORING_SETUP_IOPOLL
    let pollingName = completionPolling ? ["iopoll"] : []
    if submissionPolling {
      plans.append((polling | 1 << 1, pollingName + ["sqpoll"]))  // IORING_SETUP_SQPOLL
    } else {
      // IORING_SETUP_SINGLE_ISSUER | DEFER_TASKRUN | TASKRUN_FLAG, Linux 6.1; then COOP_TASKRUN of 5.19, then none.
      plans.append((polling | 1 << 12 | 1 << 13 | 1 << 9, pollingName + ["single_issuer", "defer_taskrun"]))
      plans.append((polling | 1 << 8 | 1 << 9, pollingName + ["coop_taskrun"]))
      plans.append((polling, pollingName))
    }
    var code = EINVAL
    var made: (Int, [String])?
    // A set-up that fails with EINVAL for all flags is tried with half the entries.
    search: while size >= 1 {
      for (flags, names) in plans {
        var parameters = io_uring_params()
        parameters.flags = flags
        code = setUpFault?(size) ?? 0
        if code == 0 { code = -io_uring_queue_init_params(UInt32(size), ring, &parameters) }
        if code == 0 {
          made = (size, names)
          break search
        }
        if code != EINVAL { break search }
      }
      size /= 2
    }
    guard let made else {
      ring.deallocate()
      throw TraceError(path: "io_uring", "set it up", errno: code, hint: Self.hint(code))
    }
    (entries, features) = made
    isPresent = true
  }

  /// No ring.
  private init() {
    ring = .allocate(capacity: 1)
    submissionPolling = false
    completionPolling = false
    entries = 0
    features = []
    isPresent = false
  }

  static var absent: Ring { Ring() }

  deinit {
    if isPresent {
      // The kernel ends a ring some time after its last descriptor was closed; files that it still held would be busy until then.
      io_uring_unregister_files(ring)
      io_uring_queue_exit(ring)
    }
    ring.deallocate()
  }

  private static func hint(_ code: Int32) -> String {
    switch code {
    case ENOMEM: "'ulimit -l' limits its memory; a lower --iodepth needs less"
    case EPERM: "the sysctl kernel.io_uring_disabled or a sandbox forbids it"
    default: ""
    }
  }

  /// Why this machine has no io_uring; nil when it has.
  static func unavailability() -> String? {
    let probe = UnsafeMutablePointer<io_uring>.allocate(capacity: 1)
    defer { probe.deallocate() }
    let code = -io_uring_queue_init(2, probe, 0)
    guard code != 0 else {
      io_uring_queue_exit(probe)
      return nil
    }
    if code == ENOSYS { return "this kernel has no io_uring" }
    return "io_uring: \(String(cString: strerror(code)))" + (hint(code).isEmpty ? "" : " (\(hint(code)))")
  }

  /// What the running kernel takes at set-up, and operations that came late.
  static func kernelFeatures() -> [String] {
    guard let ring = try? Ring(entries: 2) else { return [] }
    var features = ring.features
    if (try? Ring(entries: 2, submissionPolling: true)) != nil { features.append("sqpoll") }
    if (try? Ring(entries: 2, completionPolling: true)) != nil { features.append("iopoll") }
    if ring.supports(operation: 55) { features.append("ftruncate") }
    return features
  }

  /// Whether the kernel has an operation (IORING_OP_* number).
  func supports(operation: Int32) -> Bool {
    guard let probe = io_uring_get_probe_ring(ring) else { return false }
    defer { io_uring_free_probe(probe) }
    return io_uring_opcode_supported(probe, operation) != 0
  }

  /// Registers descriptors, −1 for unused places; false when the kernel does not take them.
  mutating func register(files: [Int32]) -> Bool {
    let code = files.withUnsafeBufferPointer { io_uring_register_files(ring, $0.baseAddress, UInt32($0.count)) }
    if code == 0 { self.files = files }
    return code == 0
  }

  /// Registers memory; the errno when the kernel does not take it.
  mutating func register(buffers: [UnsafeMutableRawBufferPointer]) -> Int32? {
    let vectors = buffers.map { iovec(iov_base: $0.baseAddress, iov_len: $0.count) }
    let code = io_uring_register_buffers(ring, vectors, UInt32(vectors.count))
    if code == 0 { self.buffers = buffers }
    return code == 0 ? nil : -code
  }

  /// Another ring of the same kind with everything registered that is registered here.
  /// - Throws: also when the kernel does not take what was registered.
  func remade(entries: Int, setUpFault: (@Sendable (_ entries: Int) -> Int32)?) throws(TraceError) -> Ring {
    var other = try Ring(
      entries: entries, submissionPolling: submissionPolling, completionPolling: completionPolling, setUpFault: setUpFault)
    if !files.isEmpty, !other.register(files: files) {
      throw TraceError(path: "io_uring", "register files with another ring", errno: errno)
    }
    if !buffers.isEmpty, let code = other.register(buffers: buffers) {
      throw TraceError(path: "io_uring", "register buffers with another ring", errno: code)
    }
    return other
  }

  // MARK: Submission

  /// A free entry of the submission queue, which counts as used; nil when the queue is full even after submitting.
  @inline(__always)
  mutating func nextEntry() -> UnsafeMutablePointer<io_uring_sqe>? {
    if let entry = io_uring_get_sqe(ring) {
      pending += 1
      return entry
    }
    return submitForEntry()
  }

  @inline(never)
  private mutating func submitForEntry() -> UnsafeMutablePointer<io_uring_sqe>? {
    guard io_uring_submit(ring) >= 0, let entry = io_uring_get_sqe(ring) else { return nil }
    pending = 1
    return entry
  }

  /// Submits what is pending, and waits for a completion until `deadline` (CLOCK_MONOTONIC, nanoseconds; 0 for not at all). No
  /// system call is made when completions are there and nothing is to be submitted. Interrupted waits return early.
  @inline(__always)
  mutating func enter(until deadline: Int64) {
    let ready = io_uring_cq_ready(ring)
    if pending == 0, ready > 0, ctrace_uring_needs_enter(ring) == 0 { return }
    if deadline == 0 {
      guard pending > 0 || ctrace_uring_needs_enter(ring) != 0 else { return }
      calls &+= 1
      io_uring_submit_and_get_events(ring)
    } else {
      calls &+= 1
      let wait = max(0, deadline &- ctrace_monotonic_ns())
      var timeout = __kernel_timespec(tv_sec: wait / 1_000_000_000, tv_nsec: wait % 1_000_000_000)
      var entry: UnsafeMutablePointer<io_uring_cqe>?
      io_uring_submit_and_wait_timeout(ring, &entry, 1, &timeout, nil)
    }
    pending = Int(io_uring_sq_ready(ring))
  }

  /// Submits what is pending without waiting.
  mutating func submit() {
    io_uring_submit(ring)
    pending = Int(io_uring_sq_ready(ring))
  }

  /// Submits what is pending, and lets the kernel finish what it can finish now, without waiting.
  mutating func poll() {
    io_uring_submit_and_get_events(ring)
    pending = Int(io_uring_sq_ready(ring))
  }

  // MARK: Completion

  /// Completions that were taken: how many, and the bitwise or of their user data and of their flags.
  struct Drained {
    var count: Int
    var allUserData: UInt64
    var allFlags: UInt32
  }

  /// Moves completions out of the ring.
  @inline(__always)
  func drain(_ completions: UnsafeMutablePointer<ctrace_completion>, limit: Int) -> Drained {
    var userData: UInt64 = 0
    var flags: UInt32 = 0
    let count = Int(ctrace_uring_drain(ring, completions, UInt32(limit), &userData, &flags))
    return Drained(count: count, allUserData: userData, allFlags: flags)
  }

  /// The completion queue was full; the kernel keeps what did not fit (IORING_FEAT_NODROP).
  var hasOverflow: Bool {
    @inline(__always) get { ctrace_uring_has_overflow(ring) != 0 }
  }

  /// Nothing is to be submitted, and no completion waits.
  var isDrained: Bool { pending == 0 && io_uring_cq_ready(ring) == 0 && ctrace_uring_needs_enter(ring) == 0 }
}
