import CTrace
import Glibc

/// Decodes what was drained, on a thread of its own, and hands requests to the writer.
final class SyscallDecoder: @unchecked Sendable {
  struct Outcome: Sendable {
    var counters = SyscallCounters()
    var cpuNanoseconds: Int64 = 0
  }
  private let events: SyscallEvents
  private let scope: SyscallStream.Scope
  private let layout: RingPageLayout
  private let streamCount: Int
  private let input: DrainedQueue
  private let output: CaptureQueue
  private let snapshots: [ProcessSnapshot]
  private var thread: WorkerThread?
  private var outcome = Outcome()
  /// Living processes; written by the thread, read by others.
  private let living: UnsafeMutablePointer<UInt32>
  private let kernelCount: @Sendable (Int32) -> (read: UInt64, written: UInt64)?

  /// - Parameter kernelCount: what the kernel counts of a process since it was attached to; called at the end.
  init(
    events: SyscallEvents, scope: SyscallStream.Scope, layout: RingPageLayout, streams: Int, snapshots: [ProcessSnapshot],
    from input: DrainedQueue, to output: CaptureQueue, kernelCount: @escaping @Sendable (Int32) -> (read: UInt64, written: UInt64)?
  ) {
    self.events = events
    self.scope = scope
    self.layout = layout
    streamCount = streams
    self.snapshots = snapshots
    self.input = input
    self.output = output
    self.kernelCount = kernelCount
    living = .allocate(capacity: 1)
    living.initialize(to: UInt32(max(1, snapshots.count)))
  }

  deinit { living.deallocate() }

  func start() throws(TraceError) { thread = try WorkerThread { self.run() } }

  /// Waits for the last round.
  func join() -> Outcome {
    thread?.join()
    thread = nil
    return outcome
  }

  /// Nothing is left of what is recorded.
  var isAlone: Bool { ctrace_load_acquire32(living) == 0 }

  // MARK: The thread

  private func run() {
    setpriority(__priority_which_t(PRIO_PROCESS.rawValue), id_t(ctrace_gettid()), -5)
    // Local values: as properties of this object they would be checked for exclusive access at each event.
    var merge = StreamMerge(streams: streamCount, layout: layout)
    var stream = SyscallStream(events: events, scope: scope)
    var records = RecordBuffer()
    for snapshot in snapshots { stream.seed(snapshot, into: &records) }
    var isLast = false
    while !isLast {
      for round in input.takeAll() {
        let bound = merge.absorb(round)
        merge.drain(before: bound) { (_, isBehindLoss, event) in stream.accept(event, isBehindLoss: isBehindLoss, into: &records) }
        for loss in round.losses { records.append(gap: gap(loss)) }
        isLast = isLast || round.isLast
        hand(&stream, &records, bound, isLast)
        input.release(round.bytes)
      }
      ctrace_store_release32(living, UInt32(max(0, stream.livingProcesses)))
    }
    outcome.counters = stream.finish(kernelCount)
    outcome.counters.kernelEvents = merge.events
    outcome.counters.malformedPages = merge.malformedPages
    outcome.cpuNanoseconds = ctrace_thread_cpu_ns()
  }

  private func hand(_ stream: inout SyscallStream, _ records: inout RecordBuffer, _ bound: UInt64, _ isLast: Bool) {
    let earliest = stream.settle(before: bound, into: &records)
    // A writer that has fallen behind is waited for; the kernel's buffers fill meanwhile, and what they drop is counted.
    while !output.hasRoom { usleep(2000) }
    output.put(records.takeRound(watermark: isLast ? Int64.max : Int64(bitPattern: earliest &- scope.epochNanoseconds), isLast: isLast))
  }

  private func gap(_ loss: DrainedRound.Loss) -> TraceEvent {
    // The kernel counts events, of which a call has two.
    TraceEvent(
      startNanoseconds: Int64(bitPattern: loss.from &- scope.epochNanoseconds), operation: .gap, sizeBytes: (loss.lostEvents + 1) / 2,
      latencyNanoseconds: Int64(bitPattern: loss.to &- loss.from), result: GapCause.ringFull.rawValue)
  }
}
