import CTrace

/// One io_uring: set-up with what the kernel has, registration, submission and completion. Owned by the thread that made it.
struct Ring: ~Copyable {
  private let ring: UnsafeMutablePointer<io_uring>
  /// Entries of the submission queue; the completion queue has at least twice as many.
  let entries: Int
  /// The set-up flags in use, as the manual names them, lower case.
  let features: [String]
  private var pending = 0
  private let isPolled: Bool

  /// - Parameters:
  ///   - entries: operations in flight; rounded up to a power of two.
  ///   - submissionPolling: IORING_SETUP_SQPOLL.
  ///   - completionPolling: IORING_SETUP_IOPOLL; the ring takes reads and writes with O_DIRECT only.
  init(entries wanted: Int, submissionPolling: Bool = false, completionPolling: Bool = false) throws(TraceError) {
    ring = .allocate(capacity: 1)
    isPolled = completionPolling
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
        code = -io_uring_queue_init_params(UInt32(size), ring, &parameters)
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
  }

  deinit {
    io_uring_queue_exit(ring)
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
  func register(files: [Int32]) -> Bool {
    files.withUnsafeBufferPointer { io_uring_register_files(ring, $0.baseAddress, UInt32($0.count)) } == 0
  }

  /// Registers memory; the errno when the kernel does not take it.
  func register(buffers: [UnsafeMutableRawBufferPointer]) -> Int32? {
    let vectors = buffers.map { iovec(iov_base: $0.baseAddress, iov_len: $0.count) }
    let code = io_uring_register_buffers(ring, vectors, UInt32(vectors.count))
    return code == 0 ? nil : -code
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
      io_uring_submit_and_get_events(ring)
    } else {
      let wait = max(0, deadline &- ctrace_monotonic_ns())
      var timeout = __kernel_timespec(tv_sec: wait / 1_000_000_000, tv_nsec: wait % 1_000_000_000)
      var entry: UnsafeMutablePointer<io_uring_cqe>?
      io_uring_submit_and_wait_timeout(ring, &entry, 1, &timeout, nil)
    }
    pending = Int(io_uring_sq_ready(ring))
  }

  /// Submits and looks for completions of a polled ring.
  mutating func poll() {
    io_uring_submit_and_get_events(ring)
    pending = Int(io_uring_sq_ready(ring))
  }

  // MARK: Completion

  /// Moves completions out of the ring: their user_data and results; the number of them.
  @inline(__always)
  func drain(_ userData: UnsafeMutablePointer<UInt64>, _ results: UnsafeMutablePointer<Int32>, limit: Int) -> Int {
    Int(ctrace_uring_drain(ring, userData, results, UInt32(limit)))
  }
}
