import CTrace
import Glibc

/// What a collector drained in one round: slots of one ring after another, as the traced processes wrote them.
struct CaptureRound: ~Copyable {
  /// `slotCount` slots of one process, one after another in `slots`.
  struct Segment {
    var processID: Int32
    var slotCount: Int
  }
  let slots: UnsafeMutableRawPointer
  let bytes: Int
  var slotCount = 0
  var segments: [Segment] = []
  /// Gap events that this round found, on the trace's clock.
  var gaps: [TraceEvent] = []
  /// No event of a later round starts before this (trace's clock), but for calls that took longer than the bound.
  var watermark = Int64.min
  /// Nothing follows.
  var isLast = false

  init(slotCapacity: Int) {
    bytes = max(1, slotCapacity) * MemoryLayout<trace_record>.stride
    slots = .allocate(byteCount: bytes, alignment: 64)
  }

  deinit { slots.deallocate() }

  var isEmpty: Bool { slotCount == 0 && gaps.isEmpty }
}

/// Rounds on their way from the thread that drains to the thread that writes; bounded in bytes.
final class CaptureQueue: @unchecked Sendable {
  private final class Node {
    var round: CaptureRound?
    init(_ round: consuming CaptureRound) { self.round = consume round }
  }
  private var mutex = pthread_mutex_t()
  private var arrived = pthread_cond_t()
  private var nodes: [Node] = []
  private var next = 0
  private var queuedBytes = 0
  let limitBytes: Int

  init(limitBytes: Int = 256 << 20) {
    self.limitBytes = limitBytes
    pthread_mutex_init(&mutex, nil)
    pthread_cond_init(&arrived, nil)
  }

  deinit {
    pthread_cond_destroy(&arrived)
    pthread_mutex_destroy(&mutex)
  }

  /// False when so much waits already that draining should pause; rings fill up then, and count what they drop.
  var hasRoom: Bool {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    return queuedBytes < limitBytes
  }

  func put(_ round: consuming CaptureRound) {
    let bytes = round.bytes
    let node = Node(round)
    pthread_mutex_lock(&mutex)
    nodes.append(node)
    queuedBytes += bytes
    pthread_cond_signal(&arrived)
    pthread_mutex_unlock(&mutex)
  }

  /// The next round, or nil when none comes in time.
  func take(waitingMilliseconds: Int) -> CaptureRound? {
    let deadline = ctrace_realtime_ns() + Int64(waitingMilliseconds) * 1_000_000
    var until = timespec(tv_sec: Int(deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
    pthread_mutex_lock(&mutex)
    while next == nodes.count {
      if pthread_cond_timedwait(&arrived, &mutex, &until) == ETIMEDOUT, next == nodes.count {
        pthread_mutex_unlock(&mutex)
        return nil
      }
    }
    pthread_mutex_unlock(&mutex)
    // Nobody else takes.
    return take()
  }

  /// The next round; waits for it.
  func take() -> CaptureRound {
    pthread_mutex_lock(&mutex)
    while next == nodes.count { pthread_cond_wait(&arrived, &mutex) }
    let node = nodes[next]
    next += 1
    if next == nodes.count || next > 4096 {
      nodes.removeFirst(next)
      next = 0
    }
    let round = node.round.take()!
    queuedBytes -= round.bytes
    pthread_mutex_unlock(&mutex)
    return round
  }
}
