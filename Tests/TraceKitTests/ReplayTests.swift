import Foundation
import Testing

@testable import TraceKit

/// Writes a trace and returns its path.
@discardableResult
func makeTrace(_ path: String, files: [TraceFile], events: [TraceEvent], blockEvents: Int = 65_536) throws -> String {
  var options = TraceWriter.Options()
  options.overwrite = true
  options.blockEvents = blockEvents
  let writer = try TraceWriter(path: path, metadata: TraceMetadata(source: "generated"), options: options)
  for file in files { _ = writer.addFile(file) }
  for event in events { try writer.append(event) }
  try writer.finish()
  return path
}

func regular(_ path: String, size: UInt64? = nil) -> TraceFile { TraceFile(path: Array(path.utf8), kind: .regular, sizeBytes: size) }

func access(
  _ operation: TraceOperation, _ file: UInt32, _ offset: UInt64, _ size: UInt64, at start: Int64, thread: Int32 = 1, result: Int64? = nil
) -> TraceEvent {
  TraceEvent(
    startNanoseconds: start, operation: operation, file: file, offsetBytes: offset, sizeBytes: size, latencyNanoseconds: 1000,
    result: result ?? Int64(size), processID: 1, threadID: thread)
}

func contents(_ path: String) -> Data? { FileManager.default.contents(atPath: path) }

@Suite struct ReplayTests {
  let folder = Folder()

  private func options(_ change: (inout ReplayOptions) -> Void = { _ in }) -> ReplayOptions {
    var options = ReplayOptions()
    options.speed = .maximum
    options.targets.scratch = folder.path
    change(&options)
    return options
  }

  private func mixedTrace(threads: Int32 = 4, count: Int = 4000, gap: Int64 = 1000) throws -> String {
    var random = SplitMix(seed: 3)
    var events: [TraceEvent] = []
    for i in 0..<count {
      let thread = Int32(i) % threads + 1
      let file = UInt32(i % 3)
      let offset = UInt64.random(in: 0..<2000, using: &random) * 512
      switch i % 10 {
      case 0:
        events.append(
          TraceEvent(startNanoseconds: Int64(i) * gap, operation: .fsync, file: file, result: 0, processID: 1, threadID: thread))
      case 1...4: events.append(access(.write, file, offset, 1536, at: Int64(i) * gap, thread: thread))
      default: events.append(access(.read, file, offset, 700, at: Int64(i) * gap, thread: thread))
      }
    }
    return try makeTrace(folder("mixed"), files: (0..<3).map { regular("/data/\($0)", size: 2 << 20) }, events: events)
  }

  @Test(arguments: ["null", "sync", "libaio", "io_uring"], [ReplayOrder.streams, .schedule, .dependencies, .depth])
  func everyEngineIssuesTheSameRequestsInEveryOrder(engine: String, order: ReplayOrder) throws {
    let trace = try mixedTrace()
    let replayer = try Replayer(
      tracePath: trace,
      options: options {
        $0.engine = engine
        $0.order = order
        $0.workers = 4
      })
    let report = try replayer.run()
    #expect(report.run.requests == 4000)
    #expect(report.run.errors == 0)
    #expect(report.run.shortTransfers == 0)
    #expect(report.run.bytesRead == 2000 * 700)
    #expect(report.run.bytesWritten == 1600 * 1536)
    #expect(report.operations.map(\.operation) == ["read", "write", "fsync"])
    #expect(report.latency.service.histogram.count == 4000)
    #expect(report.windows.reduce(0) { $0 + $1.requests } == 4000)
    #expect(report.windows.count <= 30)
    #expect(report.files.reduce(0) { $0 + $1.requests } == 4000)
    #expect(report.intervals.reduce(0) { $0 + $1.requests } == 4000)
    #expect(report.fidelity.verdict == .notApplicable)
  }

  @Test func scratchFilesAreGoneAfterTheRun() throws {
    let trace = try mixedTrace()
    _ = try Replayer(tracePath: trace, options: options()).run()
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["mixed"])
  }

  @Test func writtenBytesAreTheSameForTheSameSeed() throws {
    let trace = try makeTrace(
      folder("w"), files: [regular("/a")],
      events: (0..<50).map { access(.write, 0, UInt64($0) * 1000, 1000, at: Int64($0)) })
    var seen: [Data] = []
    for seed in [1, 1, 2] as [UInt64] {
      let target = folder("target\(seen.count)")
      _ = FileManager.default.createFile(atPath: target, contents: Data(count: 50_000))
      _ = try Replayer(
        tracePath: trace,
        options: options {
          $0.seed = seed
          $0.targets.target = target
          $0.targets.allowWrites = true
        }
      ).run()
      seen.append(try #require(contents(target)))
    }
    #expect(seen[0].count == 50_000)
    let equal = seen[0] == seen[1]
    let different = seen[0] != seen[2]
    #expect(equal)
    #expect(different)
  }

  @Test func originalSpeedKeepsTheSchedule() throws {
    let trace = try makeTrace(
      folder("timed"), files: [regular("/a")], events: (0..<200).map { access(.read, 0, UInt64($0) * 512, 512, at: Int64($0) * 1_000_000) })
    let report = try Replayer(tracePath: trace, options: options { $0.speed = .factor(1) }).run()
    #expect(report.run.elapsedNanoseconds >= 199_000_000)
    #expect(report.latency.lag.histogram.minimum! >= 0)
    #expect(report.latency.response.histogram.count == 200)
    let fast = try Replayer(tracePath: trace, options: options { $0.speed = .factor(10) }).run()
    #expect(fast.run.elapsedNanoseconds >= 19_900_000)
    let rate = try Replayer(tracePath: trace, options: options { $0.speed = .rate(2000) }).run()
    #expect(rate.run.elapsedNanoseconds >= 99_500_000)
  }

  @Test func lateRequestsAreDroppedOrShiftTheScheduleWhenAsked() throws {
    // A negative budget makes every request late, whatever the machine.
    let trace = try makeTrace(
      folder("late"), files: [regular("/a")], events: (0..<100).map { access(.read, 0, 0, 512, at: Int64($0)) })
    let dropping = try Replayer(
      tracePath: trace,
      options: options {
        $0.speed = .factor(1)
        $0.late = .drop
        $0.lagBudgetNanoseconds = -1
      }
    ).run()
    #expect(dropping.run.dropped > 0)
    #expect(dropping.run.requests + dropping.run.dropped == 100)
    #expect(dropping.fidelity.verdict == .degraded)
    let shifting = try Replayer(
      tracePath: trace,
      options: options {
        $0.speed = .factor(1)
        $0.late = .shift
        $0.lagBudgetNanoseconds = -1
      }
    ).run()
    #expect(shifting.run.requests == 100)
    #expect(shifting.run.shiftNanoseconds > 0)
  }

  @Test func windowFilterAndLoopsChooseRequests() throws {
    let trace = try makeTrace(
      folder("f"), files: [regular("/data/a.db"), regular("/log/b")],
      events: (0..<100).map { (i: Int) -> TraceEvent in
        access(i % 2 == 0 ? .read : .write, UInt32(i / 2 % 2), 0, 512, at: Int64(i) * 1_000_000)
      }, blockEvents: 8)
    func requests(_ change: (inout ReplayOptions) -> Void) throws -> UInt64 {
      try Replayer(tracePath: trace, options: options(change)).run().run.requests
    }
    #expect(try requests { $0.fromNanoseconds = 50_000_000 } == 50)
    #expect(try requests { $0.toNanoseconds = 10_000_000 } == 10)
    #expect(try requests { $0.only = .read } == 50)
    #expect(try requests { $0.fileGlobs = ["*.db"] } == 50)
    #expect(try requests { $0.loops = 3 } == 300)
    #expect(
      try requests {
        $0.only = .write
        $0.fileGlobs = ["/log/*"]
        $0.fromNanoseconds = 50_000_000
      } == 13)
  }

  @Test func whatIsNotReplayedIsCountedByReason() throws {
    var pipe = regular("pipe:[1]")
    pipe.kind = .pipe
    let trace = try makeTrace(
      folder("kinds"), files: [regular("/a"), pipe],
      events: [
        access(.read, 0, 0, 512, at: 1), access(.write, 1, 0, 5, at: 2), access(.read, 0, 0, 512, at: 3, result: -5),
        TraceEvent(startNanoseconds: 4, operation: .open, file: 0),
        TraceEvent(startNanoseconds: 5, operation: .read, file: 0, sizeBytes: 5),
        TraceEvent(startNanoseconds: 6, operation: .write, file: 0, offsetBytes: UInt64.max - 9, sizeBytes: 100),
        TraceEvent(startNanoseconds: 7, operation: .read, file: 77, offsetBytes: 0, sizeBytes: 5),
      ])
    let report = try Replayer(tracePath: trace, options: options()).run()
    #expect(report.run.requests == 1)
    let reasons = Dictionary(uniqueKeysWithValues: report.fidelity.notReplayed.map { ($0.reason, $0.requests) })
    #expect(reasons["write on a pipe"] == 1)
    #expect(reasons["read that failed when recorded"] == 1)
    #expect(reasons["open"] == 1)
    #expect(reasons["read without offset or size"] == 1)
    #expect(reasons["write with an offset or size out of range"] == 1)
    #expect(reasons["read of an unknown file"] == 1)
  }

  @Test func theLogIsATraceWithTheDigestOfTheReplayedOne() throws {
    let trace = try mixedTrace()
    let report = try Replayer(
      tracePath: trace,
      options: options {
        $0.logPath = folder("log")
        $0.workers = 3
      }
    ).run()
    let log = try TraceReader(path: folder("log"))
    let events = try readAll(log)
    #expect(events.count == 4000)
    #expect(log.metadata.replayedDigest == report.trace.digest)
    #expect(Set(events.map(\.request)).count == 4000)
    #expect(events.allSatisfy { $0.latencyNanoseconds >= 0 })
    let sorted = zip(events, events.dropFirst()).allSatisfy { $0.startNanoseconds <= $1.startNanoseconds }
    #expect(sorted)
  }

  @Test func readsOfDataThatTheTraceDidNotWriteFindData() throws {
    let trace = try makeTrace(folder("r"), files: [regular("/a")], events: [access(.read, 0, 1 << 20, 4096, at: 1)])
    let report = try Replayer(
      tracePath: trace,
      options: options { $0.targets.keepScratch = true }
    ).run()
    #expect(report.run.shortTransfers == 0)
    let scratch = try #require(report.targets.first?.path)
    let bytes = try #require(contents(scratch))
    #expect(bytes.count == (1 << 20) + 4096)
    #expect(Set(bytes.suffix(4096)).count > 50)
  }
}

@Suite struct TargetSafetyTests {
  let folder = Folder()

  private func run(_ trace: String, _ change: (inout ReplayOptions) -> Void) throws -> ReplayReport {
    var options = ReplayOptions()
    options.speed = .maximum
    options.targets.scratch = folder.path
    change(&options)
    return try Replayer(tracePath: trace, options: options).run()
  }

  private func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return ""
    } catch { return "\(error)" }
  }

  private func writing(_ path: String = "/a") throws -> String {
    try makeTrace(folder("trace"), files: [regular(path)], events: [access(.write, 0, 0, 4096, at: 1), access(.read, 0, 0, 100, at: 2)])
  }

  @Test func nothingThatExistedIsWrittenWithoutPermission() throws {
    let trace = try writing()
    let precious = Data("precious".utf8) + Data(count: 10_000)
    _ = FileManager.default.createFile(atPath: folder("precious"), contents: precious)
    let text = message { _ = try run(trace) { $0.targets.target = folder("precious") } }
    #expect(text.contains("--allow-writes"))
    #expect(text.contains("4.00 KiB"))
    let untouched = contents(folder("precious")) == precious
    #expect(untouched)
    _ = try run(trace) {
      $0.targets.target = folder("precious")
      $0.targets.allowWrites = true
    }
    let overwritten = contents(folder("precious")) != precious
    #expect(overwritten)
  }

  @Test func aRecordedPathNeverLeavesTheFolder() throws {
    for path in ["/../../escaped", "../x", "/a/../../b", "/a\nb"] {
      let trace = try writing(path)
      try FileManager.default.createDirectory(atPath: folder("inside"), withIntermediateDirectories: true)
      let text = message { _ = try run(trace) { $0.targets.target = folder("inside") } }
      #expect(text.contains("is not made below"), "\(path): \(text)")
      // A scratch file takes any name.
      #expect(try run(trace) { _ in }.run.requests == 2)
    }
    #expect(!FileManager.default.fileExists(atPath: folder("escaped")))
  }

  @Test func aSymbolicLinkBelowTheFolderIsNotFollowed() throws {
    let trace = try writing("/link/file")
    try FileManager.default.createDirectory(atPath: folder("inside"), withIntermediateDirectories: true)
    try FileManager.default.createDirectory(atPath: folder("outside"), withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(atPath: folder("inside/link"), withDestinationPath: folder("outside"))
    let text = message {
      _ = try run(trace) {
        $0.targets.target = folder("inside")
        $0.targets.allowWrites = true
      }
    }
    #expect(text.contains("cannot"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder("outside")).isEmpty)
  }

  @Test func badTargetsEachGetTheirSentence() throws {
    let trace = try writing()
    _ = FileManager.default.createFile(atPath: folder("small"), contents: Data(count: 10))
    let reading = try makeTrace(folder("reading"), files: [regular("/a")], events: [access(.read, 0, 0, 4096, at: 1)])
    #expect(message { _ = try run(reading) { $0.targets.target = folder("small") } }.contains("too small"))
    #expect(message { _ = try run(trace) { $0.targets.target = folder("missing") } }.contains("No such file"))
    #expect(message { _ = try run(trace) { $0.targets.target = "/dev/null" } }.contains("character device"))
    #expect(message { _ = try run(trace) { $0.targets.scratch = folder("nowhere") } }.contains("--scratch"))
    #expect(message { _ = try run(trace) { $0.engine = "warp" } }.contains("there are null, sync"))
    #expect(
      message {
        _ = try run(trace) {
          $0.targets.target = trace
          $0.targets.reservedPaths = [trace]
          $0.targets.allowWrites = true
        }
      }.contains("can't be its target"))
    let two = try makeTrace(
      folder("two"), files: [regular("/a"), regular("/b")], events: [access(.read, 0, 0, 1, at: 1), access(.read, 1, 0, 1, at: 2)])
    #expect(message { _ = try run(two) { $0.targets.target = folder("small") } }.contains("several files"))
    let huge = try makeTrace(
      folder("huge"), files: [regular("/a")], events: [access(.write, 0, 1 << 45, 1 << 20, at: 1), access(.read, 0, 1 << 46, 512, at: 2)])
    let manyAreas = try makeTrace(
      folder("areas"), files: [regular("/a")],
      events: (0..<40_000).map { (i: Int) -> TraceEvent in access(.read, 0, UInt64(i) << 25, 512, at: Int64(i)) })
    _ = huge
    #expect(message { _ = try run(manyAreas) { $0.targets.scratch = "/dev/shm" } }.contains("too little room"))
  }

  @Test func aMountedDeviceIsNamedAsSuch() throws {
    // The root filesystem's device, where there is one that can be found.
    guard let line = SmallFile.text("/proc/self/mountinfo")?.split(separator: "\n").first(where: { $0.contains(" / / ") }),
      let numbers = line.split(separator: " ").dropFirst(2).first?.split(separator: ":").compactMap({ UInt64($0) }), numbers.count == 2,
      numbers[0] > 0
    else { return }
    let device = ((numbers[0] & 0xFFF) << 8) | (numbers[1] & 0xFF) | ((numbers[1] & 0xFFF00) << 12)
    #expect(DeviceUse.use(ofDevice: device)?.hasPrefix("mounted at /") == true)
  }

  @Test func dryRunTouchesNothingAndNamesTheTargets() throws {
    let trace = try writing()
    _ = FileManager.default.createFile(atPath: folder("precious"), contents: Data("precious".utf8))
    var options = ReplayOptions()
    options.targets.target = folder("precious")
    options.speed = .factor(1)
    let text = try Replayer(tracePath: trace, options: options).dryRun().text
    #expect(text.contains("OVERWRITTEN"))
    #expect(text.contains("refused without --allow-writes"))
    #expect(text.contains("duration  1 ns"))
    #expect(contents(folder("precious")) == Data("precious".utf8))
  }
}

@Suite struct NamedFolderTests {
  @Test func filesMadeInANamedFolderStayWhileScratchFilesGo() throws {
    let folder = Folder()
    try FileManager.default.createDirectory(atPath: folder("named"), withIntermediateDirectories: true)
    let trace = try makeTrace(
      folder("trace"), files: [regular("/kept/a"), regular("/other/b")],
      events: [access(.write, 0, 0, 512, at: 1), access(.write, 1, 0, 512, at: 2)])
    var options = ReplayOptions()
    options.speed = .maximum
    options.targets.scratch = folder.path
    options.targets.map = [TargetRule("/kept", folder("named"))]
    let report = try Replayer(tracePath: trace, options: options).run()
    #expect(report.run.requests == 2)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder("named")) == ["a"])
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == ["named", "trace"])
  }
}
