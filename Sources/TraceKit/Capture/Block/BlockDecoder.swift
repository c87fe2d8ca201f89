import CTrace
import Glibc

/// Decodes what was drained of block events, on a thread of its own, and hands requests to the writer.
final class BlockDecoder: @unchecked Sendable {
  private let events: BlockEvents
  private let scope: BlockStream.Scope
  private let layout: RingPageLayout
  private let streamCount: Int
  private let input: DrainedQueue
  private let output: CaptureQueue
  private var thread: WorkerThread?
  private var counters = BlockCounters()

  init(
    events: BlockEvents, scope: BlockStream.Scope, layout: RingPageLayout, streams: Int, from input: DrainedQueue,
    to output: CaptureQueue
  ) {
    self.events = events
    self.scope = scope
    self.layout = layout
    streamCount = streams
    self.input = input
    self.output = output
  }

  func start() throws(TraceError) { thread = try WorkerThread { self.run() } }

  /// Waits for the last round.
  func join() -> BlockCounters {
    thread?.join()
    thread = nil
    return counters
  }

  private func run() {
    setpriority(__priority_which_t(PRIO_PROCESS.rawValue), id_t(ctrace_gettid()), -5)
    var merge = StreamMerge(streams: streamCount, layout: layout)
    var stream = BlockStream(events: events, scope: scope)
    var records = RecordBuffer()
    stream.define(into: &records)
    var isLast = false
    while !isLast {
      for round in input.takeAll() {
        let bound = merge.absorb(round)
        merge.drain(before: bound) { (_, _, event) in stream.accept(event, into: &records) }
        for loss in round.losses { records.append(gap: gap(loss)) }
        isLast = isLast || round.isLast
        while !output.hasRoom { usleep(2000) }
        let earliest = stream.earliest(before: bound)
        output.put(records.takeRound(watermark: isLast ? Int64.max : Int64(bitPattern: earliest &- scope.epochNanoseconds), isLast: isLast))
        input.release(round.bytes)
      }
    }
    counters = stream.finish()
    counters.kernelEvents = merge.events
    counters.malformedPages = merge.malformedPages
  }

  private func gap(_ loss: DrainedRound.Loss) -> TraceEvent {
    // How many requests the lost events were of is not known: a request has two to four.
    TraceEvent(
      startNanoseconds: Int64(bitPattern: loss.from &- scope.epochNanoseconds), operation: .gap, sizeBytes: TraceEvent.unknownSize,
      latencyNanoseconds: Int64(bitPattern: loss.to &- loss.from), result: GapCause.ringFull.rawValue)
  }
}
