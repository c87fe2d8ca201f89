import CTrace
import Glibc

/// What a recording through tracefs holds while it runs: lock, guardian, instances, and the threads behind them.
final class TracingSession {
  let tracefs: Tracefs
  let layout: RingPageLayout
  let queue: DrainedQueue
  let drain: TraceDrain
  private let lock: TraceInstanceLock
  let guardian: TracingGuardian?
  private(set) var instances: [TraceInstance] = []

  /// Most memory for pages that are drained and not yet decoded.
  private static let queueBytes = 256 << 20

  init(purpose: String, options: TracingOptions, pauseMicroseconds: (least: UInt32, most: UInt32)) throws(TraceError) {
    tracefs = try Tracefs(purpose: purpose)
    layout = try tracefs.pageLayout()
    lock = try TraceInstanceLock(tracefs)
    guardian = options.guardian.flatMap { TracingGuardian($0) }
    queue = DrainedQueue(limitBytes: Self.queueBytes)
    drain = TraceDrain(layout: layout, queue: queue, pauseMicroseconds: pauseMicroseconds)
  }

  /// Makes an instance whose buffers are drained.
  func makeInstance(suffix: String = "", bufferBytes: Int) throws(TraceError) -> TraceInstance {
    let instance = try TraceInstance(tracefs, suffix: suffix)
    instances.append(instance)
    try instance.setBuffer(bytesPerCPU: Self.bounded(bufferBytes, processors: instance.processors.count))
    try drain.add(instance)
    return instance
  }

  /// Memory of each CPU's buffer: however many CPUs there are, an eighth of the memory at most.
  static func bounded(_ bufferBytes: Int, processors: Int) -> Int {
    let memory = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE)) / 8
    return min(bufferBytes, max(256 << 10, memory / max(1, processors)))
  }

  func stopTracing() { for instance in instances { try? instance.set("tracing_on", "0") } }

  /// Removes everything. A drain that a failed start left running is ended first.
  func end() {
    drain.finish()
    drain.closeFiles()
    for instance in instances { instance.remove() }
    instances.removeAll()
    guardian?.dismiss()
    lock.release()
  }

  /// The recorder's own threads and its guardian.
  var ownThreads: [Int32] { ProcessSnapshot.threads(of: getpid()) + (guardian.map { [$0.processID] } ?? []) }

  /// Sleeps until the recording is to end: by time, by a signal, or because `isOver` says so. `tick` is called every 250 ms.
  static func wait(_ durationNanoseconds: Int64?, isOver: () -> Bool, tick: () -> Void) {
    let end = durationNanoseconds.map { ctrace_monotonic_ns() &+ $0 } ?? Int64.max
    var nextTick = ctrace_monotonic_ns() + 250_000_000
    while ctrace_stop_signal() == 0, !isOver() {
      let now = ctrace_monotonic_ns()
      if now >= end { return }
      ctrace_sleep_until(min(end, now + 20_000_000))
      guard now >= nextTick else { continue }
      nextTick = now + 250_000_000
      tick()
    }
  }
}
