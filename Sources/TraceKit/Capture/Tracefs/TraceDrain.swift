import CTrace
import Glibc

/// Empties the buffers of instances on a thread of its own, so that neither decoding nor a slow disk makes them overflow.
final class TraceDrain: @unchecked Sendable {
  private enum Source {
    /// A CPU's buffer of an instance.
    case instance(pipe: Int32, statistics: Int32)
    /// A CPU's ring of the programs in the kernel.
    case ring(CallRings, processor: Int)
  }
  private struct Stream {
    var source: Source
    var counted = CPUStatistics()
    var lastLook: UInt64
    /// Events were lost at the last look: perhaps behind the pages that were read then.
    var wasLossy = false
    /// Whole pages came since the counters were looked at: without any the buffer can't have been full.
    var isDue = true
  }
  private let queue: DrainedQueue
  private let layout: RingPageLayout
  private var streams: [Stream] = []
  private var thread: WorkerThread?
  private let stopping: UnsafeMutablePointer<UInt32>
  private var lastPut: UInt64 = 0
  /// When the events of the last round are complete, if nothing was handed over since.
  private var settleTime = UInt64.max
  private let pauseMicroseconds: (least: UInt32, most: UInt32)

  /// Most that one round takes of one buffer.
  private static let roundBytes = 4 << 20
  /// An event may be stored this long after its time was taken: interrupts, a virtual CPU that does not run.
  private static let storeDelay: UInt64 = 1_000_000

  /// - Parameter pause: how long the thread sleeps between looks, when much comes and when nothing does.
  init(layout: RingPageLayout, queue: DrainedQueue, pauseMicroseconds: (least: UInt32, most: UInt32)) {
    self.layout = layout
    self.queue = queue
    self.pauseMicroseconds = pauseMicroseconds
    stopping = .allocate(capacity: 1)
    stopping.initialize(to: 0)
  }

  deinit {
    closeFiles()
    stopping.deallocate()
  }

  /// An instance can't be removed while its files are open. After `finish`.
  func closeFiles() {
    for stream in streams {
      guard case .instance(let pipe, let statistics) = stream.source else { continue }
      close(pipe)
      close(statistics)
    }
    streams.removeAll()
  }

  /// Buffers so far.
  var streamCount: Int { streams.count }

  /// Adds the buffers of an instance; before `start`.
  func add(_ instance: TraceInstance) throws(TraceError) {
    for processor in instance.processors {
      let folder = "\(instance.path)/per_cpu/cpu\(processor)"
      let pipe = ctrace_open("\(folder)/trace_pipe_raw", O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0)
      guard pipe >= 0 else { throw TraceError(path: "\(folder)/trace_pipe_raw", "open it", errno: errno) }
      let statistics = ctrace_open("\(folder)/stats", O_RDONLY | O_CLOEXEC, 0)
      guard statistics >= 0 else {
        let code = errno
        close(pipe)
        throw TraceError(path: "\(folder)/stats", "open it", errno: code)
      }
      streams.append(Stream(source: .instance(pipe: pipe, statistics: statistics), lastLook: UInt64(ctrace_monotonic_ns())))
    }
  }

  /// Adds the rings of programs in the kernel; before `start`.
  func add(_ rings: CallRings) {
    for processor in 0..<rings.layout.processors {
      streams.append(Stream(source: .ring(rings, processor: processor), lastLook: UInt64(ctrace_monotonic_ns())))
    }
  }

  /// Counters that loss is measured against begin here.
  func start() throws(TraceError) {
    for i in streams.indices { streams[i].counted = Self.statistics(streams[i].source) }
    thread = try WorkerThread { self.run() }
  }

  /// Ends the thread after a last round, which it hands over; nothing happens when there is none. Tracing must be off by then.
  func finish() {
    ctrace_store_release32(stopping, 1)
    thread?.join()
    thread = nil
  }

  /// What the kernel counted over all buffers since `start`; after `finish`.
  private(set) var totals = CPUStatistics()
  /// CPU time of the thread in nanoseconds; after `finish`.
  private(set) var cpuNanoseconds: Int64 = 0

  // MARK: The thread

  private func run() {
    // Draining is short and must not wait behind the programs that fill the buffers; without the right to that, it does.
    var priority = sched_param(sched_priority: 1)
    if pthread_setschedparam(pthread_self(), SCHED_RR, &priority) != 0 {
      setpriority(__priority_which_t(PRIO_PROCESS.rawValue), id_t(ctrace_gettid()), -10)
    }
    var pause = pauseMicroseconds.least
    while ctrace_load_acquire32(stopping) == 0 {
      let (bytes, isComplete) = queue.hasRoom ? drainOnce(isLast: false) : (0, true)
      if !isComplete { continue }
      pause = bytes > layout.pageBytes * streams.count ? pauseMicroseconds.least : min(pause * 2, pauseMicroseconds.most)
      usleep(pause)
    }
    while !drainOnce(isLast: false).isComplete {}
    _ = drainOnce(isLast: true)
  }

  /// Returns the bytes of whole pages, and whether every buffer was emptied.
  private func drainOnce(isLast: Bool) -> (bytes: Int, isComplete: Bool) {
    let now = UInt64(ctrace_monotonic_ns())
    var round = DrainedRound()
    round.bounds.reserveCapacity(streams.count)
    var isComplete = true
    for i in streams.indices {
      let (bound, emptied) = drain(i, now, into: &round)
      round.bounds.append(bound)
      isComplete = isComplete && emptied
    }
    for i in streams.indices where streams[i].isDue || isLast { noteLoss(i, into: &round) }
    round.isLast = isLast
    let bytes = round.bytes
    if isLast {
      for stream in streams {
        let counted = Self.statistics(stream.source)
        totals.lostEvents += counted.lostEvents
        totals.readEvents += counted.readEvents
        totals.entries += counted.entries
      }
      cpuNanoseconds = ctrace_thread_cpu_ns()
    }
    // Time passes for those behind also when nothing happens: soon after events, so that the last of them need not wait for the next
    // to be taken as complete (files are looked up then, while they are open), then not as often.
    let settles = now >= settleTime
    if bytes > 0 || settles { settleTime = bytes > 0 ? now + Self.storeDelay : UInt64.max }
    if bytes > 0 || settles || isLast || now - lastPut > 50_000_000 {
      lastPut = now
      queue.put(round)
    }
    return (bytes, isComplete)
  }

  private func drain(_ i: Int, _ now: UInt64, into round: inout DrainedRound) -> (bound: UInt64, emptied: Bool) {
    switch streams[i].source {
    case .instance(let pipe, _): drain(pipe, of: i, now, into: &round)
    case .ring(let rings, let processor): drain(rings, processor, of: i, now, into: &round)
    }
  }

  /// - Returns: the time before which nothing more comes of this stream, and whether it was emptied.
  private func drain(
    _ rings: CallRings, _ processor: Int, of i: Int, _ now: UInt64, into round: inout DrainedRound
  ) -> (bound: UInt64, emptied: Bool) {
    // What comes after this look, or is being stored at this moment, is younger than the delay.
    let bound = now - min(now, Self.storeDelay)
    let pieces = rings.take(processor)
    guard !pieces.isEmpty else { return (bound, true) }
    for piece in pieces { round.pages.append((i, piece)) }
    let bytes = pieces.reduce(0) { $0 + $1.count }
    round.bytes += bytes
    streams[i].isDue = true
    return (bound, bytes < Self.roundBytes)
  }

  private func drain(_ pipe: Int32, of i: Int, _ now: UInt64, into round: inout DrainedRound) -> (bound: UInt64, emptied: Bool) {
    var taken = 0
    var lastStart: UInt64 = 0
    var pages: DrainedPages?
    while taken < Self.roundBytes {
      if pages == nil { pages = DrainedPages(capacity: (taken == 0 ? 4 : 64) * layout.pageBytes) }
      let place = pages!.count
      guard pages!.readPage(pipe, pageBytes: layout.pageBytes) > 0 else {
        if let pages, pages.count > 0 { round.pages.append((i, pages)) }
        round.bytes += taken
        return (now - min(now, Self.storeDelay), true)
      }
      taken += layout.pageBytes
      if taken > 2 * layout.pageBytes { streams[i].isDue = true }
      lastStart = (pages!.bytes + place).loadUnaligned(fromByteOffset: layout.timestampOffset, as: UInt64.self)
      if pages!.count == pages!.capacity {
        round.pages.append((i, pages!))
        pages = nil
      }
    }
    if let pages, pages.count > 0 { round.pages.append((i, pages)) }
    round.bytes += taken
    return (lastStart, false)
  }

  // MARK: Loss

  private func noteLoss(_ i: Int, into round: inout DrainedRound) {
    let now = UInt64(ctrace_monotonic_ns())
    let counted = Self.statistics(streams[i].source)
    // Rings say where a loss lies.
    let isRing = if case .ring = streams[i].source { true } else { false }
    if streams[i].wasLossy, !isRing { round.markLossy(i) }
    streams[i].wasLossy = counted.lostEvents > streams[i].counted.lostEvents
    if counted.lostEvents > streams[i].counted.lostEvents {
      round.note(
        .init(stream: i, lostEvents: counted.lostEvents - streams[i].counted.lostEvents, from: streams[i].lastLook, to: now),
        marksPages: !isRing)
    }
    streams[i].counted = counted
    streams[i].lastLook = now
    // Once more after a loss, whose pages may come with the next look.
    streams[i].isDue = streams[i].wasLossy
  }

  private static func statistics(_ source: Source) -> CPUStatistics {
    switch source {
    case .instance(_, let descriptor): statistics(descriptor)
    case .ring(let rings, let processor): rings.statistics(processor)
    }
  }

  private static func statistics(_ descriptor: Int32) -> CPUStatistics {
    var text = [UInt8](repeating: 0, count: 1024)
    let count = pread(descriptor, &text, text.count, 0)
    return count > 0 ? CPUStatistics(String(decoding: text[0..<count], as: UTF8.self)) : CPUStatistics()
  }
}
