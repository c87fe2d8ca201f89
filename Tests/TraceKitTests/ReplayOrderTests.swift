import Foundation
import Testing

@testable import TraceKit

/// What the orders, think time and the division over workers promise, seen in the log of the replay.
@Suite struct ReplayOrderTests {
  private let folder = Folder()

  private func event(
    _ operation: TraceOperation, start: Int64, latency: Int64?, offset: UInt64 = 0, size: UInt64 = 4096, file: UInt32 = 0, thread: Int32 = 1
  ) -> TraceEvent {
    TraceEvent(
      startNanoseconds: start, operation: operation, file: file, offsetBytes: offset, sizeBytes: size,
      latencyNanoseconds: latency ?? TraceEvent.unknownLatency, processID: 1, threadID: thread)
  }

  /// Start and end of each replayed request, by its number in the trace.
  private func times(
    _ events: [TraceEvent], engine: String, _ change: (inout ReplayOptions) -> Void
  ) throws -> (times: [(start: Int64, end: Int64)], report: ReplayReport) {
    let trace = try makeTrace(
      folder("t-\(UInt64.random(in: 0...UInt64.max))"), files: [regular("/a", size: 1 << 22), regular("/b", size: 1 << 22)], events: events)
    var options = ReplayOptions()
    options.engine = engine
    options.speed = .maximum
    options.targets.scratch = folder.path
    options.logPath = trace + ".log"
    change(&options)
    let report = try Replayer(tracePath: trace, options: options).run()
    let reader = try TraceReader(path: trace + ".log")
    var found = [(start: Int64, end: Int64)](repeating: (0, 0), count: events.count)
    let batch = EventBatch(capacity: 1024)
    while try reader.next(into: batch) {
      for event in batch.buffer {
        found[Int(event.request)] = (event.startNanoseconds, event.startNanoseconds + event.latencyNanoseconds)
      }
    }
    return (found, report)
  }

  /// Random requests of several threads on two files, some at the same time.
  private func randomEvents(_ count: Int, seed: UInt64) -> [TraceEvent] {
    var state = seed
    func next(_ limit: UInt64) -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (state >> 33) % limit
    }
    var time: Int64 = 0
    return (0..<count).map { _ in
      time += Int64(next(3000))
      let operations: [TraceOperation] = [.read, .write, .write, .read, .fsync]
      return event(
        operations[Int(next(5))], start: time, latency: Int64(next(12_000)), offset: next(64) * 4096, size: 1 + next(16384),
        file: UInt32(next(2)), thread: Int32(next(4)))
    }
  }

  @Test(arguments: EngineRegistry.entries.filter(\.worksOnFiles).map(\.name), [1, 3])
  func dependenciesAreKept(engine: String, workers: Int) throws {
    guard try EngineRegistry.engine(engine).unavailability() == nil else { return }
    let isAsynchronous = try EngineRegistry.engine(engine).isAsynchronous
    if isAsynchronous, workers > 1 { return }
    let events = randomEvents(1500, seed: UInt64(workers) + 7)
    let (times, report) = try times(events, engine: engine) {
      $0.order = .dependencies
      $0.workers = workers
    }
    #expect(report.run.requests == UInt64(events.count))
    var broken: [String] = []
    for later in events.indices {
      for earlier in max(0, later - 60)..<later {
        let (a, b) = (events[earlier], events[later])
        guard a.startNanoseconds + a.latencyNanoseconds / 64 * 64 <= b.startNanoseconds else { continue }
        let isBarrier = a.operation == .fsync || b.operation == .fsync
        let overlaps = a.offsetBytes < b.offsetBytes + b.sizeBytes && b.offsetBytes < a.offsetBytes + a.sizeBytes
        let writes = a.operation == .write || b.operation == .write
        guard a.threadID == b.threadID || (a.file == b.file && (isBarrier || (overlaps && writes))) else { continue }
        if times[earlier].end > times[later].start { broken.append("\(earlier) before \(later)") }
      }
    }
    #expect(broken.isEmpty, "\(broken.prefix(5)) of \(broken.count)")
  }

  @Test(arguments: ["sync", "io_uring"])
  func thinkTimeIsKeptBetweenRequestsOfAThread(engine: String) throws {
    guard try EngineRegistry.engine(engine).unavailability() == nil else { return }
    // Two threads, 20 requests each, 2 ms of thought between them.
    var events: [TraceEvent] = []
    for i in 0..<20 {
      for thread in 0..<2 {
        events.append(event(.read, start: Int64(i) * 2_100_000 + Int64(thread) * 10_000, latency: 100_000, thread: Int32(thread)))
      }
    }
    let (times, report) = try times(events, engine: engine) {
      $0.order = .streams
      $0.keepsThinkTime = true
    }
    for thread in 0..<2 {
      let own = stride(from: thread, to: 40, by: 2).map { times[$0] }
      let shortest = zip(own, own.dropFirst()).map { $1.start - $0.end }.min() ?? 0
      // A latency is remembered in steps of 64 ns.
      #expect(shortest >= 2_000_000 - 64)
    }
    #expect(report.fidelity.verdict == .notApplicable)
    #expect(report.run.elapsedNanoseconds >= 19 * 2_000_000)
  }

  @Test func thinkTimeNeedsAnOrderThatHasIt() throws {
    let trace = try makeTrace(folder("x"), files: [regular("/a")], events: [event(.read, start: 0, latency: 1)])
    for (order, speed) in [(ReplayOrder.depth, ReplaySpeed.maximum), (.schedule, .maximum), (.streams, .factor(1))] {
      var options = ReplayOptions()
      options.order = order
      options.speed = speed
      options.keepsThinkTime = true
      #expect(throws: TraceError.self) { try Replayer(tracePath: trace, options: options) }
    }
  }

  @Test func withoutLatenciesDependenciesAreStreamsAndTheReportSaysSo() throws {
    let events = (0..<100).map { event(.read, start: Int64($0) * 10, latency: nil, thread: Int32($0 % 3)) }
    let (_, report) = try times(events, engine: "sync") { $0.order = .dependencies }
    #expect(report.run.order == "streams")
    #expect(report.notes.contains { $0.contains("no latencies") })
  }

  @Test func overlappingWritesInFlightAreCounted() throws {
    guard try EngineRegistry.engine("io_uring").unavailability() == nil else { return }
    // All on the same bytes with 32 in flight: only the first of a batch that finds nothing in flight does not overlap.
    let same: [TraceEvent] = (0..<64).map { i in event(.write, start: Int64(i), latency: 1) }
    let apart: [TraceEvent] = (0..<64).map { i in event(.write, start: Int64(i), latency: 1, offset: UInt64(i) * 4096) }
    for (events, expected) in [(same, UInt64(62)...63), (apart, 0...0)] {
      let (_, report) = try times(events, engine: "io_uring") {
        $0.order = .depth
        $0.engineOptions.iodepth = 32
      }
      #expect(expected.contains(report.fidelity.overlappingRequests ?? .max))
    }
  }

  @Test func aFilesRequestsStayInOneWorkerWhenDividedByFile() throws {
    let events: [TraceEvent] = (0..<400).map { i in
      event(.write, start: Int64(i), latency: 1, offset: UInt64(i) * 512, file: UInt32(i % 2), thread: Int32(i % 7))
    }
    let (times, report) = try times(events, engine: "sync") {
      $0.order = .depth
      $0.division = .files
      $0.workers = 2
    }
    #expect(report.run.workers == 2)
    for file in 0..<2 {
      let own = stride(from: file, to: 400, by: 2).map { times[$0] }
      let inOrder = zip(own, own.dropFirst()).allSatisfy { $0.end <= $1.start }
      #expect(inOrder)
    }
  }
}
