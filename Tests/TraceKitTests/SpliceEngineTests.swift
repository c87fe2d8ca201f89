import CTrace
import Foundation
import Testing

@testable import TraceKit

@Suite struct SpliceEngineTests {
  let folder = Folder()
  private typealias Forced = SpliceCalls.Forced

  @Test func movesAnyOffsetAndLengthAlsoBeyondThePipe() throws {
    let file = EngineFile(folder("f"), bytes: 3_000_000)
    var options = EngineOptions()
    options.pipeBytes = 16384
    var engine = try SpliceEngine(file.configuration(options))
    #expect(engine.capacityBytes == 16384)
    var expected = file.content
    var random = SplitMix(seed: 4)
    for round in 0..<400 {
      let offset = Int.random(in: 0..<2_500_000, using: &random)
      let length = round % 5 == 0 ? Int.random(in: 16385..<400_000, using: &random) : Int.random(in: 0..<9000, using: &random)
      let shift = round % 3 == 0 ? Int.random(in: 0..<4096, using: &random) : 0
      if round % 2 == 0 {
        let result = engine.queue(file.operation(.read, offset, length, shift: shift), slot: 0)
        #expect(result == .completed(Int64(length)))
        let same = file.bytes(length, shift: shift) == expected[offset..<offset + length]
        #expect(same, "read of \(length) at \(offset)")
      } else {
        let data = random.data(length)
        file.fill(data, shift: shift)
        #expect(engine.queue(file.operation(.write, offset, length, shift: shift), slot: 0) == .completed(Int64(length)))
        expected.replaceSubrange(offset..<offset + length, with: data)
      }
    }
    let same = file.content == expected
    #expect(same)
  }

  @Test func aReadAtTheEndIsShortAndBeyondItNothing() throws {
    let file = EngineFile(folder("f"), bytes: 10_000)
    var engine = try SpliceEngine(file.configuration())
    #expect(engine.queue(file.operation(.read, 8000, 4096), slot: 0) == .completed(2000))
    #expect(engine.queue(file.operation(.read, 10_000, 4096), slot: 0) == .completed(0))
    #expect(engine.queue(file.operation(.read, 1 << 40, 4096), slot: 0) == .completed(0))
    #expect(engine.queue(file.operation(.write, 20_000, 10), slot: 0) == .completed(10))
    #expect(file.content.count == 20_010)
  }

  @Test func takesTheNextWayToMemoryForGood() throws {
    let ways: [([Forced], SpliceEngine.Delivery)] = [
      ([Forced(call: .pipeToMemory, answer: -Int64(EFAULT))], .ownBuffer),
      ([Forced(call: .pipeToMemory, answer: -Int64(EBADF))], .read),
      ([Forced(call: .pipeToMemory, answer: -Int64(EFAULT)), Forced(call: .pipeToMemory, answer: -Int64(EBADF))], .read),
    ]
    for (forced, delivery) in ways {
      let file = EngineFile(folder("f"), bytes: 300_000)
      var engine = try SpliceEngine(file.configuration(), calls: SpliceCalls(forced: forced))
      #expect(engine.delivery == .freshMapping)
      for offset in [0, 100_000, 7] {
        #expect(engine.queue(file.operation(.read, offset, 100_000), slot: 0) == .completed(100_000))
        let same = file.bytes(100_000) == file.content[offset..<offset + 100_000]
        #expect(same)
        #expect(engine.delivery == delivery)
      }
      #expect(engine.conditions["pipe-to-memory"] == delivery.rawValue)
    }
  }

  /// A kernel that moves pages into the fresh mapping answers with a count: the bytes must reach the buffer.
  @Test func thisKernelEndsInOneOfTheWays() throws {
    let file = EngineFile(folder("f"), bytes: 300_000)
    var engine = try SpliceEngine(file.configuration())
    #expect(engine.queue(file.operation(.read, 5, 200_000), slot: 0) == .completed(200_000))
    let same = file.bytes(200_000) == file.content[5..<200_005]
    #expect(same)
  }

  @Test(arguments: [EAGAIN, ENODATA, EINTR])
  func answersThatSayNotNowAreRetried(code: Int32) throws {
    let file = EngineFile(folder("f"), bytes: 200_000)
    let calls: [SpliceCalls.Call] = [.fileToPipe, .pipeToFile, .memoryToPipe, .pipeToMemory]
    var engine = try SpliceEngine(
      file.configuration(),
      calls: SpliceCalls(forced: calls.flatMap { [Forced(call: $0, times: 7, answer: -Int64(code)), Forced(call: $0, answer: 100)] }))
    let before = file.content
    #expect(engine.queue(file.operation(.read, 1000, 150_000), slot: 0) == .completed(150_000))
    let same = file.bytes(150_000) == before[1000..<151_000]
    #expect(same)
    #expect(engine.queue(file.operation(.write, 0, 150_000), slot: 0) == .completed(150_000))
    let written = file.content.prefix(150_000) == before[1000..<151_000]
    #expect(written)
  }

  @Test func zeroBytesFromAFullPipeAreNoEnd() throws {
    let file = EngineFile(folder("f"), bytes: 100_000)
    var engine = try SpliceEngine(
      file.configuration(), calls: SpliceCalls(forced: [Forced(call: .pipeToMemory, times: 5, answer: 0)]))
    #expect(engine.queue(file.operation(.read, 0, 50_000), slot: 0) == .completed(50_000))
    var stuck = try SpliceEngine(
      file.configuration(), calls: SpliceCalls(forced: [Forced(call: .pipeToMemory, times: SpliceEngine.maximumRetries + 1, answer: 0)]))
    #expect(stuck.queue(file.operation(.read, 0, 50_000), slot: 0) == .completed(-Int64(ENODATA)))
    // Nothing of it is left in the pipe.
    #expect(stuck.queue(file.operation(.read, 50_000, 50_000), slot: 0) == .completed(50_000))
    let same = file.bytes(50_000) == file.content.suffix(50_000)
    #expect(same)
  }

  @Test func aTransferThatFailsHalfWayLosesAndRepeatsNothing() throws {
    for (call, after) in [(SpliceCalls.Call.pipeToFile, 1), (.memoryToPipe, 2), (.pipeToMemory, 2), (.fileToPipe, 1)] {
      let file = EngineFile(folder("f"), bytes: 400_000)
      var options = EngineOptions()
      options.pipeBytes = 65536
      var engine = try SpliceEngine(
        file.configuration(options),
        calls: SpliceCalls(forced: [
          Forced(call: call, answer: call == .fileToPipe ? 65536 : 10_000),
          Forced(call: call, after: after, times: 1, answer: -Int64(EIO)),
        ]))
      let before = file.content
      let writes = call == .pipeToFile || call == .memoryToPipe
      let data = Data(repeating: 0xA5, count: 300_000)
      if writes { file.fill(data) }
      let done = Int(engine.queue(file.operation(writes ? .write : .read, 0, 300_000), slot: 0).rawValue)
      #expect(done > 0 && done < 300_000, "\(call): \(done)")
      if writes {
        let same = file.content == data.prefix(done) + before.dropFirst(done)
        #expect(same, "\(call)")
      } else {
        let same = file.bytes(done) == before.prefix(done)
        #expect(same, "\(call)")
      }
      let after = file.content
      #expect(engine.queue(file.operation(.read, 300_000, 100_000), slot: 0) == .completed(100_000))
      let clean = file.bytes(100_000) == after.suffix(100_000)
      #expect(clean, "\(call): the pipe was not empty")
    }
  }

  @Test func anErrorBeforeTheFirstByteIsTheResult() throws {
    let file = EngineFile(folder("f"), bytes: 4096)
    var engine = try SpliceEngine(
      file.configuration(),
      calls: SpliceCalls(forced: [Forced(call: .fileToPipe, answer: -Int64(EIO)), Forced(call: .pipeToFile, answer: -Int64(ENOSPC))]))
    #expect(engine.queue(file.operation(.read, 0, 4096), slot: 0) == .completed(-Int64(EIO)))
    #expect(engine.queue(file.operation(.write, 0, 4096), slot: 0) == .completed(-Int64(ENOSPC)))
    #expect(engine.queue(file.operation(.read, 0, 4096), slot: 0) == .completed(4096))
  }

  @Test func otherOperationsAreThoseOfSync() throws {
    let file = EngineFile(folder("f"), bytes: 16384)
    var engine = try SpliceEngine(file.configuration())
    for kind in [IOOperation.Kind.fsync, .fdatasync] { #expect(engine.queue(file.operation(kind, 0, 0), slot: 0) == .completed(0)) }
    #expect(engine.queue(file.operation(.truncate, 8192, 0), slot: 0) == .completed(0))
    #expect(file.content.count == 8192)
    #expect(engine.queue(file.operation(.discard, 0, 4096), slot: 0) == .completed(0))
    #expect(file.content.prefix(4096) == Data(count: 4096))
    #expect(engine.queue(file.operation(.write, 4096, 512, flags: 2), slot: 0) == .completed(512))
  }

  @Test func pipeSizeIsSetAndReported() throws {
    let file = EngineFile(folder("f"), bytes: 4096)
    var options = EngineOptions()
    options.pipeBytes = 1 << 20
    #expect(try SpliceEngine(file.configuration(options)).conditions["pipe-bytes"] == "1048576")
    #expect(try SpliceEngine(file.configuration(largestBytes: 200_000)).capacityBytes >= 200_000)
    #expect(try SpliceEngine(file.configuration(largestBytes: 4096)).capacityBytes == 65536)
    options.pipeBytes = 100
    #expect(SpliceEngine.refusal(of: options)?.contains("--pipe-size") == true)
  }

  @Test func aFilesystemWithoutSpliceGetsItsOwnMessage() throws {
    // /proc has files that read(2) takes and splice(2) does not.
    let probe = open("/proc/self/environ", O_RDONLY | O_CLOEXEC)
    defer { close(probe) }
    var ends: [Int32] = [0, 0]
    _ = ctrace_nonblocking_pipe(&ends)
    defer { ends.forEach { close($0) } }
    var offset: Int64 = 0
    guard ctrace_splice(probe, &offset, ends[1], nil, 10) == -Int64(EINVAL) else { return }
    let trace = try makeTrace(
      folder("t"), files: [regular("/a")],
      events: [TraceEvent(startNanoseconds: 1, operation: .read, file: 0, offsetBytes: 0, sizeBytes: 100, result: 0)])
    var options = ReplayOptions()
    options.engine = "splice"
    options.speed = .maximum
    options.targets.target = "/proc/self/environ"
    let report = try Replayer(tracePath: trace, options: options).run()
    #expect(report.run.errors == 1)
    #expect(report.text.contains("does not support splice"))
    #expect(report.options["pipe-bytes"] == "65536")
  }
}
