import CTrace
import Glibc

/// Drains the rings of a session on a thread of its own, so that neither compression nor a slow disk makes them overflow.
final class PreloadCollector: @unchecked Sendable {
  private let session: PreloadSession
  private let nice: Int32?
  private let queue: CaptureQueue
  /// CLOCK_MONOTONIC of the trace's time 0.
  private let epochNanoseconds: UInt64
  private var thread: WorkerThread?
  private let stopping: UnsafeMutablePointer<UInt32>
  private var rings: [PreloadRing] = []
  private var waitingNumbers: [UInt32] = []
  private var waitingSince: UInt64 = 0
  private var nextNumber: UInt32 = 0
  private var endingSeen: UInt32 = 0
  private var lastDeathCheck: UInt64 = 0
  private var previousWatermark: UInt64 = 0
  private var living: Set<Int32> = []

  /// A call in flight holds back the events that started after it for this long at most.
  private static let longestHold: UInt64 = 10_000_000_000
  /// A store that announces a call may become visible this much after the clock was read.
  private static let storeDelay: UInt64 = 1_000_000

  /// - Parameter nice: nice value of the draining thread; nil lets it go ahead of others where that is allowed.
  init(session: PreloadSession, queue: CaptureQueue, epochNanoseconds: UInt64, nice: Int32? = nil) {
    self.nice = nice
    self.session = session
    self.queue = queue
    self.epochNanoseconds = epochNanoseconds
    stopping = .allocate(capacity: 1)
    stopping.initialize(to: 0)
  }

  deinit { stopping.deallocate() }

  func start() throws(TraceError) { thread = try WorkerThread { self.run() } }

  /// Ends recording, drains what was published, hands over the last round. Returns the processes that still run.
  func finish() -> Set<Int32> {
    ctrace_store_release32(stopping, 1)
    thread?.join()
    thread = nil
    return living
  }

  // MARK: The thread

  private func run() {
    // Draining is short and must not wait behind the programs that fill the rings; without the right to that, it does.
    var priority = sched_param(sched_priority: 1)
    if let nice {
      setpriority(__priority_which_t(PRIO_PROCESS.rawValue), id_t(ctrace_gettid()), nice)
    } else if pthread_setschedparam(pthread_self(), SCHED_RR, &priority) != 0 {
      setpriority(__priority_which_t(PRIO_PROCESS.rawValue), id_t(ctrace_gettid()), -10)
    }
    var pauseMicroseconds: UInt32 = 500
    while ctrace_load_acquire32(stopping) == 0 {
      let drained = queue.hasRoom ? drainOnce() : 0
      if drained > 16_384 { continue }
      pauseMicroseconds = drained > 0 ? 500 : min(pauseMicroseconds * 2, 4000)
      usleep(pauseMicroseconds)
    }
    session.stop()
    // What calls in flight publish from here on is not waited for; what was published is taken.
    while drainOnce() > 0 {}
    finishRings()
    var last = CaptureRound(slotCapacity: 0)
    last.watermark = Int64.max
    last.isLast = true
    queue.put(last)
  }

  /// One round over all rings; returns the number of slots taken.
  private func drainOnce() -> Int {
    let now = UInt64(ctrace_monotonic_ns())
    findRings(now)
    // A call in flight is looked for before the heads are read: what is no longer in flight has been published by then.
    let watermark = watermark(now)
    for ring in rings { ring.takeSnapshot() }
    let pending = rings.reduce(0) { $0 + $1.pendingSlots }
    var round = CaptureRound(slotCapacity: pending)
    for ring in rings where ring.pendingSlots > 0 { take(ring, into: &round) }
    for ring in rings { noteDrops(ring, into: &round) }
    removeDeadRings(now, into: &round)
    let drained = round.slotCount
    round.watermark = traceTime(watermark)
    let advanced = watermark > previousWatermark + 50_000_000
    if !round.isEmpty || advanced {
      previousWatermark = max(previousWatermark, watermark)
      queue.put(round)
    }
    return drained
  }

  private func traceTime(_ monotonic: UInt64) -> Int64 { Int64(bitPattern: monotonic &- epochNanoseconds) }

  private func take(_ ring: PreloadRing, into round: inout CaptureRound) {
    let offset = round.slotCount * MemoryLayout<trace_record>.stride
    let count = ring.copyFinished(to: round.slots + offset)
    guard count > 0 else { return }
    round.slotCount += count
    round.segments.append(CaptureRound.Segment(processID: ring.processID, slotCount: count))
  }

  private func watermark(_ now: UInt64) -> UInt64 {
    var earliest = now - Self.storeDelay
    for ring in rings {
      let start = ring.inFlight
      if start == 1 { earliest = min(earliest, previousWatermark) }
      if start > 1 { earliest = min(earliest, start) }
    }
    // A ring that is being made belongs to a call that has not begun; but its thread may be slow to say so.
    if !waitingNumbers.isEmpty, now - waitingSince < 1_000_000_000 { earliest = min(earliest, waitingSince) }
    return max(earliest, now - Self.longestHold)
  }

  private func findRings(_ now: UInt64) {
    let announced = ctrace_load_acquire32(session.pointer(\.next_ring))
    if announced > nextNumber {
      if waitingNumbers.isEmpty { waitingSince = now - Self.storeDelay }
      waitingNumbers += nextNumber..<announced
      nextNumber = announced
    }
    guard !waitingNumbers.isEmpty else { return }
    waitingNumbers.removeAll { number in
      guard let ring = PreloadRing(path: "\(session.folder)/ring.\(number)") else { return now - waitingSince > 60_000_000_000 }
      rings.append(ring)
      return true
    }
  }

  // MARK: Loss

  private func noteDrops(_ ring: PreloadRing, into round: inout CaptureRound) {
    guard let drops = ring.takeDrops() else { return }
    round.gaps.append(
      TraceEvent(
        startNanoseconds: traceTime(drops.firstNanoseconds), operation: .gap, sizeBytes: drops.count,
        latencyNanoseconds: Int64(drops.lastNanoseconds - drops.firstNanoseconds), result: GapCause.ringFull.rawValue,
        processID: ring.processID, threadID: ring.threadID == 0 ? TraceEvent.unknownID : ring.threadID))
  }

  /// Takes the rest of dead processes' rings and gives their memory back.
  private func removeDeadRings(_ now: UInt64, into round: inout CaptureRound) {
    let ending = ctrace_load_acquire32(session.pointer(\.processes_ending))
    guard ending != endingSeen || now - lastDeathCheck > 200_000_000 else { return }
    endingSeen = ending
    lastDeathCheck = now
    var states: [Int32: Bool] = [:]
    rings.removeAll { ring in
      guard ring.processIsVisible else { return false }
      if states[ring.processID] == nil { states[ring.processID] = Self.isAlive(ring.processID) }
      guard states[ring.processID] == false else { return false }
      // Published between this round's snapshot and the death.
      ring.takeSnapshot()
      if ring.pendingSlots > 0 {
        var rest = CaptureRound(slotCapacity: ring.pendingSlots)
        take(ring, into: &rest)
        noteDrops(ring, into: &rest)
        noteKilled(ring, now, into: &rest)
        rest.watermark = traceTime(previousWatermark)
        queue.put(rest)
      }
      unlink(ring.path)
      return true
    }
  }

  /// Slots that were reserved and never finished: their owner was killed between a call's end and its record.
  private func noteKilled(_ ring: PreloadRing, _ now: UInt64, into round: inout CaptureRound) {
    var lost: UInt64 = 0
    while ring.pendingSlots > 0 {
      ring.skipLost()
      lost += 1
      let count = ring.pendingSlots
      guard count > 0 else { break }
      var more = CaptureRound(slotCapacity: count)
      take(ring, into: &more)
      more.watermark = traceTime(previousWatermark)
      if !more.isEmpty { queue.put(more) }
    }
    guard lost > 0 else { return }
    round.gaps.append(
      TraceEvent(
        startNanoseconds: traceTime(now), operation: .gap, sizeBytes: lost, latencyNanoseconds: 0,
        result: GapCause.killedInCall.rawValue, processID: ring.processID))
  }

  private func finishRings() {
    var round = CaptureRound(slotCapacity: 0)
    for ring in rings {
      noteDrops(ring, into: &round)
      if Self.isAlive(ring.processID) {
        living.insert(ring.processID)
      } else {
        noteKilled(ring, UInt64(ctrace_monotonic_ns()), into: &round)
      }
    }
    noteUnrecorded(into: &round)
    round.watermark = traceTime(previousWatermark)
    queue.put(round)
    rings.removeAll()
  }

  private func noteUnrecorded(into round: inout CaptureRound) {
    let calls = session.shared.pointee.calls_without_ring
    guard calls > 0 else { return }
    let (first, last) = (session.shared.pointee.without_ring_first_ns, session.shared.pointee.without_ring_last_ns)
    round.gaps.append(
      TraceEvent(
        startNanoseconds: traceTime(first), operation: .gap, sizeBytes: calls, latencyNanoseconds: Int64(max(first, last) - first),
        result: GapCause.noRing.rawValue))
  }

  /// False for a process that is gone or a zombie: it makes no more calls.
  private static func isAlive(_ process: Int32) -> Bool {
    if kill(process, 0) != 0, errno == ESRCH { return false }
    guard let text = SmallFile.bytes("/proc/\(process)/stat", limitBytes: 1024) else { return kill(process, 0) == 0 }
    // The state follows the name, which stands in parentheses and may hold any byte.
    guard let close = text.lastIndex(of: UInt8(ascii: ")")), close + 2 < text.count else { return true }
    return text[close + 2] != UInt8(ascii: "Z") && text[close + 2] != UInt8(ascii: "X")
  }
}
