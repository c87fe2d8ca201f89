import CTrace
import Foundation
import Testing

@testable import TraceKit

/// The same traces through every registered engine: the same requests, the same bytes, the same contents in the end.
@Suite(.serialized) struct ConformanceTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  /// Runs a trace with new files below a folder of the engine's own, and gives what it did.
  private func outcome(
    _ trace: String, _ engine: String, _ order: ReplayOrder = .dependencies, _ change: (inout ReplayOptions) -> Void = { _ in }
  ) throws -> ReplayOutcome {
    let target = folder / "files-\(engine)-\(order.rawValue)"
    try FileManager.default.createDirectory(atPath: target, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: target) }
    var options = ReplayOptions()
    options.engine = engine
    options.speed = .maximum
    options.order = order
    options.targets.target = target
    change(&options)
    return ReplayOutcome(try Replayer(tracePath: trace, options: options).run(), folder: target)
  }

  /// Every engine's outcome must be that of sync.
  private func compare(
    _ trace: String, _ order: ReplayOrder = .dependencies, _ change: (inout ReplayOptions) -> Void = { _ in }
  ) throws -> ReplayOutcome {
    let expected = try outcome(trace, "sync", order, change)
    for engine in ConformanceEngines.runnable where engine != "sync" {
      let found = try outcome(trace, engine, order, change)
      #expect(found.operations == expected.operations, "\(engine)")
      #expect(found.errors == expected.errors, "\(engine)")
      #expect(found.notReplayed == expected.notReplayed, "\(engine)")
      #expect(found.contents == expected.contents, "\(engine): other contents")
    }
    return expected
  }

  @Test(arguments: EngineRegistry.entries.map(\.name))
  func enginesThatAreLeftOut(engine: String) throws {
    let entry = try EngineRegistry.engine(engine)
    // What the kernel cannot run says why; the rest of the suite leaves it out for that reason.
    if let reason = entry.unavailability() {
      #expect(!reason.isEmpty)
      print("conformance: \(engine) is left out: \(reason)")
    }
  }

  private func everyOperation() throws -> String {
    var random = TestRandom(state: 1)
    let kinds: [TraceOperation] = [.read, .write, .fsync, .fdatasync, .flush, .syncFileRange, .truncate, .allocate, .discard]
    var events: [TraceEvent] = []
    for i in 0..<4000 {
      let kind = i % 3 < 2 ? (i % 2 == 0 ? .write : .read) : kinds[i / 3 % kinds.count]
      let file = UInt32.random(in: 0..<4, using: &random)
      // Overlaps are frequent, sizes odd, some zero; one file lies above 4 GiB.
      let base: UInt64 = file == 3 ? 5 << 30 : 0
      let offset = base + UInt64.random(in: 0..<300_000, using: &random)
      let size = i % 17 == 0 ? 0 : UInt64.random(in: 1..<20_000, using: &random)
      let end = kind == .truncate ? base + UInt64.random(in: 200_000..<320_000, using: &random) : offset
      events.append(request(kind, i, file: file, offset: end, size: size, thread: Int32(i % 5) + 1))
    }
    return try conformanceTrace(
      folder / "every", files: (0..<4).map { "/data/file-\($0)" }, sizes: [400_000, 400_000, 400_000, (5 << 30) + 400_000], events: events)
  }

  @Test(arguments: [ReplayOrder.dependencies, .streams])
  func everyOperationWithOddSizesOverlapsAndFarOffsets(order: ReplayOrder) throws {
    // With 'streams' overlapping requests of several threads may change places: one thread then.
    let outcome = try compare(try everyOperation(), order) {
      if order == .streams {
        $0.fileGlobs = ["*-0"]
        $0.workers = 1
        $0.engineOptions.iodepth = 1
      }
    }
    #expect(outcome.errors.isEmpty)
    #expect(outcome.operations.count == 8)
  }

  @Test func whatIsVerifiedIsTheSameInEveryEngine() throws {
    let trace = try everyOperation()
    for engine in ConformanceEngines.runnable {
      var options = ReplayOptions()
      options.engine = engine
      options.speed = .maximum
      options.order = .dependencies
      options.verifies = true
      options.targets.scratch = folder.path
      let report = try Replayer(tracePath: trace, options: options).run()
      let found = try #require(report.verification)
      #expect(found.isClean, "\(engine): \(found.complaint ?? "")")
      #expect(found.blocksAmbiguous == 0, "\(engine)")
      #expect(found.blocksChecked > 1000, "\(engine)")
    }
  }

  @Test(arguments: ["tar", "sqlite3", "git"])
  func recordedSamples(name: String) throws {
    let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path
    let outcome = try compare("\(package)/samples/\(name).iotrace")
    #expect(outcome.errors.isEmpty)
    #expect(outcome.operations["write"]!.bytes > 0)
  }

  @Test func tenThousandFiles() throws {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    guard limit.rlim_max > 10_500 else { return }
    let count = 10_000
    let events = (0..<3 * count).map { i in
      request(
        i < count ? .write : i < 2 * count ? .read : .fdatasync, i, file: UInt32(i % count), offset: i % 2 == 0 ? 0 : 100, size: 700,
        thread: Int32(i % 3))
    }.filter { $0.operation != .fdatasync || $0.file % 500 == 0 }
    let trace = try conformanceTrace(folder / "many", files: (0..<count).map { "/many/\($0 / 100)/\($0)" }, events: events)
    let outcome = try compare(trace) { $0.workers = 2 }
    #expect(outcome.errors.isEmpty)
    #expect(outcome.operations["write"]?.bytes == 7_000_000)
    #expect(outcome.operations["read"]?.bytes == 7_000_000)
  }

  /// More than the kernel moves in one call (2,147,479,552 bytes), from a hole.
  @Test func aRequestOfTwoGigabytes() throws {
    let size: UInt64 = 2 << 30
    let trace = try conformanceTrace(
      folder / "huge", files: ["/a"],
      events: [
        request(.read, 0, offset: 4097, size: size), request(.write, 1, offset: size, size: 65537),
        request(.read, 2, offset: size, size: 65537),
      ])
    for engine in ConformanceEngines.runnable {
      let target = folder / "sparse"
      let descriptor = open(target, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
      ftruncate(descriptor, Int(size) + 100_000)
      close(descriptor)
      var options = ReplayOptions()
      options.engine = engine
      options.speed = .maximum
      options.order = .dependencies
      options.targets.target = target
      options.targets.allowWrites = true
      let report = try Replayer(tracePath: trace, options: options).run()
      #expect(report.run.errors == 0, "\(engine)")
      #expect(report.run.shortTransfers == 0, "\(engine)")
      #expect(report.run.bytesRead == size + 65537, "\(engine)")
      #expect(report.run.requests == 3, "\(engine)")
    }
  }

  // MARK: Orders

  /// From the log of the replay: no request began before those had ended that it had to follow.
  @Test(arguments: ConformanceEngines.runnable, [ReplayOrder.dependencies, .streams])
  func noRequestOvertakesWhatItMustFollow(engine: String, order: ReplayOrder) throws {
    var random = TestRandom(state: 5)
    var events: [TraceEvent] = []
    var start: Int64 = 0
    for _ in 0..<1500 {
      start += 64 * Int64.random(in: 0..<20, using: &random)
      let kinds: [TraceOperation] = [.read, .read, .read, .write, .write, .fsync]
      var event = request(
        kinds.randomElement(using: &random)!, 0, file: UInt32.random(in: 0..<3, using: &random),
        offset: UInt64.random(in: 0..<40, using: &random) * 1024, size: UInt64.random(in: 1..<4096, using: &random),
        thread: Int32.random(in: 0..<6, using: &random), latency: 64 * Int64.random(in: 0..<100, using: &random))
      event.startNanoseconds = start
      events.append(event)
    }
    let trace = try conformanceTrace(folder / "t", files: ["/a", "/b", "/c"], sizes: [65536, 65536, 65536], events: events)
    var options = ReplayOptions()
    options.engine = engine
    options.speed = .maximum
    options.order = order
    options.workers = try EngineRegistry.engine(engine).isAsynchronous ? 1 : 4
    options.logPath = folder / "log-\(engine)-\(order)"
    options.targets.scratch = folder.path
    let report = try Replayer(tracePath: trace, options: options).run()
    #expect(report.run.errors == 0)
    let reader = try TraceReader(path: options.logPath!)
    let batch = EventBatch(capacity: 4096)
    var times: [UInt64: (begin: Int64, end: Int64)] = [:]
    while try reader.next(into: batch) {
      for event in batch.buffer { times[event.request] = (event.startNanoseconds, event.startNanoseconds + event.latencyNanoseconds) }
    }
    #expect(times.count == events.count)
    var violations = 0
    var constraints = 0
    for (j, later) in events.enumerated() {
      for (i, earlier) in events[..<j].enumerated() where Self.mustPrecede(earlier, later, order) {
        constraints += 1
        if times[UInt64(i)]!.end > times[UInt64(j)]!.begin { violations += 1 }
      }
    }
    #expect(constraints > 1000)
    #expect(violations == 0, "\(violations) of \(constraints)")
  }

  private static func mustPrecede(_ earlier: TraceEvent, _ later: TraceEvent, _ order: ReplayOrder) -> Bool {
    guard earlier.startNanoseconds + earlier.latencyNanoseconds <= later.startNanoseconds else { return false }
    if earlier.threadID == later.threadID { return true }
    guard order == .dependencies, earlier.file == later.file else { return false }
    if earlier.operation == .fsync || later.operation == .fsync { return true }
    guard earlier.operation == .write || later.operation == .write else { return false }
    return earlier.offsetBytes < later.offsetBytes + later.sizeBytes && later.offsetBytes < earlier.offsetBytes + earlier.sizeBytes
  }
}
