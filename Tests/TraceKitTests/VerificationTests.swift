import CTrace
import Foundation
import Testing

@testable import TraceKit

@Suite struct VerificationTests {
  let folder = Folder()
  static let engines = EngineRegistry.entries.filter { $0.worksOnFiles && $0.capabilities.lastingTarget && $0.unavailability() == nil }.map(
    \.name)

  /// More of them by IOTRACE_VERIFY_ROUNDS.
  private static let rounds = ProcessInfo.processInfo.environment["IOTRACE_VERIFY_ROUNDS"].flatMap(Int.init) ?? 2

  private func options(_ engine: String, _ change: (inout ReplayOptions) -> Void = { _ in }) -> ReplayOptions {
    var options = ReplayOptions()
    options.engine = engine
    options.speed = .maximum
    options.verifies = true
    options.targets.scratch = folder.path
    change(&options)
    return options
  }

  /// Reads, writes of odd sizes, syncs, truncations and discards of three files by four threads.
  private func trace(odd: Bool, overlapping: Bool = true) throws -> String {
    var random = SplitMix(seed: 11)
    var events: [TraceEvent] = []
    for i in 0..<3000 {
      let thread = Int32(i % 4) + 1
      let file = overlapping ? UInt32(i % 3) : UInt32(thread - 1)
      let offset = UInt64.random(in: 0..<200, using: &random) * 4096 + (odd ? UInt64.random(in: 0..<4096, using: &random) : 0)
      let length = odd ? UInt64.random(in: 1..<9000, using: &random) : 8192
      switch i % 50 {
      case 47:
        events.append(TraceEvent(startNanoseconds: Int64(i), operation: .fsync, file: file, result: 0, processID: 1, threadID: thread))
      case 48:
        events.append(
          TraceEvent(
            startNanoseconds: Int64(i), operation: .truncate, file: file, offsetBytes: 500_000 + offset / 4, result: 0, processID: 1,
            threadID: thread))
      case 49:
        events.append(
          TraceEvent(
            startNanoseconds: Int64(i), operation: .discard, file: file, offsetBytes: offset, sizeBytes: length, result: 0, processID: 1,
            threadID: thread))
      default:
        // Where a file may have been truncated, the recorded call may have read nothing.
        if i % 2 == 0 {
          events.append(access(.write, file, offset, length, at: Int64(i), thread: thread))
        } else {
          events.append(access(.read, file, offset, length, at: Int64(i), thread: thread, result: Int64(length)))
        }
      }
    }
    return try makeTrace(folder("mixed"), files: (0..<4).map { regular("/data/\($0)", size: 1 << 20) }, events: events)
  }

  @Test(arguments: engines, [ReplayOrder.streams, .dependencies, .schedule, .depth])
  func cleanReplaysAreFoundClean(engine: String, order: ReplayOrder) throws {
    for odd in [false, true] {
      let report = try Replayer(
        tracePath: try trace(odd: odd),
        options: options(engine) {
          $0.order = order
          $0.workers = 3
          // More in flight, and everything overlaps something.
          if engine.contains("io") { $0.engineOptions.iodepth = 2 }
        }
      ).run()
      let found = try #require(report.verification)
      #expect(found.isClean, "\(found.findings.first?.message ?? "")")
      #expect(found.blocksChecked > 100)
      #expect(found.readBlocksChecked > 100)
      #expect(report.run.errors == 0)
    }
  }

  /// Nothing holds requests apart: truncations and discards run beside reads and writes of the same blocks.
  @Test(arguments: engines)
  func truncationsAndDiscardsBesideWritesRaiseNoFalseAlarm(engine: String) throws {
    let isAsynchronous = try EngineRegistry.engine(engine).isAsynchronous
    for seed in 1...Self.rounds {
      var random = SplitMix(seed: UInt64(seed))
      let events = (0..<4000).map { i in
        let thread = Int32(i % 4) + 1
        let offset = UInt64.random(in: 0..<40_000, using: &random)
        let length = UInt64.random(in: 1..<3000, using: &random)
        switch i % 10 {
        case 7: return access(.truncate, UInt32(i % 2), offset, 0, at: Int64(i), thread: thread, result: 0)
        case 8: return access(.discard, UInt32(i % 2), offset, length, at: Int64(i), thread: thread, result: 0)
        default: return access(i % 3 == 0 ? .read : .write, UInt32(i % 2), offset, length, at: Int64(i), thread: thread)
        }
      }
      let trace = try makeTrace(folder("wild"), files: (0..<2).map { regular("/data/\($0)", size: 50_000) }, events: events)
      let report = try Replayer(
        tracePath: trace,
        options: options(engine) {
          $0.order = .depth
          $0.workers = 3
          if isAsynchronous { $0.engineOptions.iodepth = 16 }
        }
      ).run()
      let found = try #require(report.verification)
      #expect(found.isClean, "seed \(seed): \(found.complaint ?? "")")
      #expect(report.run.errors == 0)
      #expect(found.readBlocksChecked + found.readBlocksNotChecked > 1000)
    }
  }

  @Test(arguments: engines)
  func withoutOverlapsNothingIsAmbiguous(engine: String) throws {
    let report = try Replayer(
      tracePath: try trace(odd: true, overlapping: false),
      options: options(engine) {
        $0.order = .streams
        $0.workers = 1
        $0.engineOptions.iodepth = 1
      }
    ).run()
    let found = try #require(report.verification)
    #expect(found.isClean, "\(found.findings.first?.message ?? "")")
    #expect(found.blocksAmbiguous == 0)
    #expect(found.readBlocksNotChecked == 0)
  }

  @Test(arguments: engines)
  func aByteThatIsFlippedOnTheTargetIsFound(engine: String) throws {
    let trace = try makeTrace(
      folder("t"), files: [regular("/first"), regular("/second")],
      events: (0..<200).map { access(.write, UInt32($0 % 2), UInt64($0 / 2) * 4096, 4096, at: Int64($0)) })
    let report = try Replayer(
      tracePath: trace,
      options: options(engine) {
        $0.beforeCheck = { targets in
          var byte: UInt8 = 0
          pread(targets[1].descriptor, &byte, 1, 123_456)
          byte ^= 1
          pwrite(targets[1].descriptor, &byte, 1, 123_456)
        }
      }
    ).run()
    let found = try #require(report.verification)
    #expect(found.blocksChecked == 1600)
    #expect(found.blocksCorrupt == 1)
    let finding = try #require(found.findings.first)
    #expect(finding.target.hasSuffix("-second"))
    #expect(finding.offsetBytes == 123_456 / 512 * 512)
    #expect(!finding.duringRun)
    #expect(finding.message.contains("damaged bytes"))
    #expect(report.text.contains("1 corrupt"))
  }

  @Test func aLostWriteIsRecognisedByTheStampOfTheOneBefore() throws {
    let trace = try makeTrace(
      folder("t"), files: [regular("/a")],
      events: [access(.write, 0, 0, 4096, at: 1), access(.write, 0, 8192, 512, at: 2), access(.write, 0, 0, 4096, at: 3)])
    let stamps = StampedBlock(seed: 1)
    let report = try Replayer(
      tracePath: trace,
      options: options("sync") {
        $0.beforeCheck = { targets in
          // As if the third request had not reached the block at 512, and the second's were gone.
          var block = [UInt8](repeating: 0, count: 512)
          block.withUnsafeMutableBytes { stamps.fill($0.baseAddress!, target: 0, offset: 512, length: 512, request: 0) }
          pwrite(targets[0].descriptor, block, 512, 512)
          block = [UInt8](repeating: 0, count: 512)
          pwrite(targets[0].descriptor, block, 512, 8192)
        }
      }
    ).run()
    let messages = try #require(report.verification).findings.map(\.message)
    #expect(messages == ["should hold data of request 2, holds data of request 0", "should hold data of request 1, holds zeros"])
  }

  /// Reads of what the run itself wrote, through a file that something else changes meanwhile.
  @Test func aReadOfWrongDataIsFoundDuringTheRun() throws {
    let trace = try makeTrace(
      folder("t"), files: [regular("/a", size: 8192)], events: [access(.write, 0, 4096, 4096, at: 1), access(.read, 0, 0, 8192, at: 2)])
    let target = folder("target")
    _ = FileManager.default.createFile(atPath: target, contents: Data(count: 8192))
    let survey = TraceSurvey(fileCount: 1)
    var opened = ReplayTarget(path: target)
    opened.isNew = true
    opened.sizeBytes = 8192
    var surveyed = survey
    surveyed.files[0].requests = 2
    surveyed.files[0].bytesToWrite = 4096
    surveyed.files[0].writeEnd = 8192
    surveyed.files[0].writeAreas.mark(4096, 4096)
    let verification = try ReplayVerification(stamps: StampedBlock(seed: 1), targets: [opened], survey: surveyed, folder: folder.path)
    let file = EngineFile(folder("x"), bytes: 8192)
    var found = VerificationResult()
    let write = file.operation(.write, 4096, 4096)
    var start = verification.begin(write, target: 0, request: 0)
    verification.end(write, target: 0, request: 0, start: start, result: 4096, into: &found)
    let read = file.operation(.read, 0, 8192)
    start = verification.begin(read, target: 0, request: 1)
    memset(file.memory, 0, 8192)
    StampedBlock(seed: 1).fill(file.memory + 4096, target: 0, offset: 4096, length: 3584, request: 0)
    verification.end(read, target: 0, request: 1, start: start, result: 8192, into: &found)
    #expect(found.readBlocksChecked == 16)
    #expect(found.readBlocksCorrupt == 1)
    #expect(found.findings.first!.offsetBytes == 7680)
    #expect(found.findings.first?.isZero == true)
    _ = trace
  }

  @Test func overlappingWritesInFlightAreAmbiguousUntilWrittenAgain() throws {
    var surveyed = TraceSurvey(fileCount: 1)
    surveyed.files[0].requests = 2
    surveyed.files[0].bytesToWrite = 8192
    surveyed.files[0].writeEnd = 8192
    surveyed.files[0].writeAreas.mark(0, 8192)
    let file = EngineFile(folder("x"), bytes: 8192)
    var opened = ReplayTarget(path: file.path)
    opened.descriptor = file.descriptor
    opened.isNew = true
    let verification = try ReplayVerification(stamps: StampedBlock(seed: 1), targets: [opened], survey: surveyed, folder: folder.path)
    var found = VerificationResult()
    let (a, b) = (file.operation(.write, 0, 4096), file.operation(.write, 2048, 4096))
    let first = verification.begin(a, target: 0, request: 0)
    let second = verification.begin(b, target: 0, request: 1)
    verification.end(a, target: 0, request: 0, start: first, result: 4096, into: &found)
    verification.end(b, target: 0, request: 1, start: second, result: 4096, into: &found)
    file.fill(Data(count: 8192))
    StampedBlock(seed: 1).fill(file.memory, target: 0, offset: 0, length: 2048, request: 0)
    StampedBlock(seed: 1).fill(file.memory + 4096, target: 0, offset: 4096, length: 2048, request: 1)
    pwrite(file.descriptor, file.memory, 8192, 0)
    try verification.checkTargets([opened], into: &found) { _ in }
    #expect(found.blocksAmbiguous == 4)
    #expect(found.blocksChecked == 8)
    #expect(found.isClean)
    let again = file.operation(.write, 0, 8192)
    let third = verification.begin(again, target: 0, request: 2)
    pwrite(file.descriptor, file.memory, 8192, 0)
    verification.end(again, target: 0, request: 2, start: third, result: 8192, into: &found)
    var after = VerificationResult()
    try verification.checkTargets([opened], into: &after) { _ in }
    #expect(after.blocksAmbiguous == 0)
    #expect(after.blocksChecked == 16)
    #expect(after.isClean)
  }

  @Test func existingContentIsNotJudged() throws {
    let trace = try makeTrace(
      folder("t"), files: [regular("/a", size: 16384)],
      events: [access(.read, 0, 0, 8192, at: 1), access(.write, 0, 0, 4096, at: 2), access(.read, 0, 0, 8192, at: 3)])
    let target = EngineFile(folder("target"), bytes: 16384)
    let report = try Replayer(
      tracePath: trace,
      options: options("sync") {
        $0.targets.target = target.path
        $0.targets.allowWrites = true
      }
    ).run()
    let found = try #require(report.verification)
    #expect(found.isClean)
    #expect(found.readBlocksChecked == 8)
    #expect(found.readBlocksNotChecked == 24)
  }

  @Test func anEngineThatKeepsNothingIsRefused() throws {
    let trace = try makeTrace(folder("t"), files: [regular("/a")], events: [access(.write, 0, 0, 512, at: 1)])
    #expect(throws: TraceError.self) { try Replayer(tracePath: trace, options: options("null")) }
  }

  @Test func stampsTellTargetOffsetAndRequestApart() {
    for percent in [0, 50, 100] {
      let stamps = StampedBlock(seed: 7, compressiblePercent: percent)
      let memory = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 8)
      defer { memory.deallocate() }
      stamps.fill(memory, target: 3, offset: 100, length: 3000, request: 42)
      // The first whole block begins at 512.
      let block = memory + 412
      #expect(stamps.request(of: block, target: 3, block: 1) == 42)
      #expect(stamps.request(of: block, target: 2, block: 1) == nil)
      #expect(stamps.request(of: block, target: 3, block: 2) == nil)
      #expect(StampedBlock(seed: 8).request(of: block, target: 3, block: 1) == nil)
    }
  }
}
