import CTrace
import Foundation
import Testing

@testable import TraceKit

@Suite(.enabled(if: LibaioEngine.unavailability() == nil, "this machine has no Linux AIO")) struct LibaioTests {
  let folder = Folder()

  /// A file, memory for a few requests, and room for completions.
  private final class Bench {
    let descriptor: Int32
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 64 * 4096, alignment: 4096)
    let completions = UnsafeMutablePointer<IOCompletion>.allocate(capacity: 64)

    init(_ path: String, blocks: Int = 64) {
      descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o600)
      for i in 0..<blocks { precondition(pwrite(descriptor, [UInt8](repeating: UInt8(i), count: 4096), 4096, off_t(i * 4096)) == 4096) }
    }

    deinit {
      close(descriptor)
      memory.deallocate()
      completions.deallocate()
    }

    func read(_ block: Int, slot: Int, of file: Int32? = nil) -> IOOperation {
      IOOperation(
        kind: .read, isBlockDevice: false, fileDescriptor: file ?? descriptor, flags: 0, buffer: memory + slot * 4096,
        offsetBytes: Int64(block * 4096), lengthBytes: 4096)
    }

    func byte(slot: Int) -> UInt8 { memory.load(fromByteOffset: slot * 4096, as: UInt8.self) }
  }

  private func configuration(iodepth: Int = 32, _ change: (inout EngineOptions) -> Void = { _ in }) -> EngineConfiguration {
    var options = EngineOptions()
    change(&options)
    return EngineConfiguration(options: options, iodepth: iodepth, slots: 64, largestRequestBytes: 4096)
  }

  /// Reaps until `count` completions have come.
  private func reap(_ engine: inout LibaioEngine, _ count: Int, _ bench: Bench) -> [IOCompletion] {
    var all: [IOCompletion] = []
    let deadline = patience
    while all.count < count, ctrace_monotonic_ns() < deadline {
      let found = engine.reap(until: deadline, into: bench.completions)
      all += UnsafeBufferPointer(start: bench.completions, count: found)
    }
    return all
  }

  // What an expectation may not call on a value that cannot be copied.
  private func queue(_ engine: inout LibaioEngine, _ operation: IOOperation, slot: Int32) -> QueueStatus {
    engine.queue(operation, slot: slot)
  }
  private func cancel(_ engine: inout LibaioEngine, _ slot: Int32) -> Bool { engine.cancel(slot) }
  private func cancelAll(_ engine: inout LibaioEngine, ofFile descriptor: Int32) -> Int { engine.cancelAll(ofFile: descriptor) }
  private func state(_ engine: inout LibaioEngine, of slot: Int32) -> LibaioEngine.RequestState { engine.state(of: slot) }
  private func reapOnce(_ engine: inout LibaioEngine, until deadline: Int64, into completions: UnsafeMutablePointer<IOCompletion>) -> Int {
    engine.reap(until: deadline, into: completions)
  }

  @Test(arguments: EventLoopTests.backends)
  func batchesComeBackWithTheirBytes(backend: EventLoopChoice) throws {
    let bench = Bench(folder("file"))
    var engine = try LibaioEngine(configuration { $0.eventLoop = backend })
    #expect(engine.conditions["event-loop"] == backend.rawValue)
    for round in 0..<4 {
      for slot in 0..<16 { #expect(queue(&engine, bench.read(round * 16 + slot, slot: slot), slot: Int32(slot)) == .queued) }
      engine.commit()
      let done = reap(&engine, 16, bench)
      #expect(Set(done.map(\.slot)) == Set(0..<16))
      #expect(done.filter { $0.result == 4096 && !$0.failedAtSubmission }.count == 16)
      #expect((0..<16).filter { bench.byte(slot: $0) == UInt8(round * 16 + $0) }.count == 16)
    }
    #expect(reapOnce(&engine, until: 0, into: bench.completions) == 0)
    // Nothing is in flight: a wait ends at its deadline.
    let deadline = ctrace_monotonic_ns() + 2_000_000
    #expect(reapOnce(&engine, until: deadline, into: bench.completions) == 0)
    #expect(ctrace_monotonic_ns() >= deadline)
  }

  @Test func moreThanTheLimitInFlightIsNotAccepted() throws {
    let bench = Bench(folder("file"))
    var engine = try LibaioEngine(configuration(iodepth: 4))
    for slot in 0..<4 { #expect(queue(&engine, bench.read(slot, slot: slot), slot: Int32(slot)) == .queued) }
    #expect(queue(&engine, bench.read(4, slot: 4), slot: 4) == .busy)
    engine.commit()
    #expect(queue(&engine, bench.read(4, slot: 4), slot: 4) == .busy)
    #expect(reap(&engine, 4, bench).count == 4)
    #expect(queue(&engine, bench.read(4, slot: 4), slot: 4) == .queued)
    engine.commit()
    #expect(reap(&engine, 1, bench).map(\.slot) == [4])
  }

  @Test func errorsOfSubmissionAndOfCompletionAreToldApart() throws {
    let bench = Bench(folder("file"))
    var engine = try LibaioEngine(configuration())
    #expect(queue(&engine, bench.read(0, slot: 0), slot: 0) == .queued)
    #expect(queue(&engine, bench.read(1, slot: 1, of: 1_000_000), slot: 1) == .queued)
    var unreachable = bench.read(2, slot: 2)
    unreachable.buffer = UnsafeMutableRawPointer(bitPattern: 4096)
    #expect(queue(&engine, unreachable, slot: 2) == .queued)
    #expect(queue(&engine, bench.read(3, slot: 3), slot: 3) == .queued)
    engine.commit()
    let done = reap(&engine, 4, bench).sorted { $0.slot < $1.slot }
    #expect(done.map(\.slot) == [0, 1, 2, 3])
    #expect(done.map(\.result) == [4096, -Int64(EBADF), -Int64(EFAULT), 4096])
    #expect(done.map(\.failedAtSubmission) == [false, true, false, false])
    #expect(state(&engine, of: 0) == .done(bytes: 4096))
    #expect(state(&engine, of: 1) == .failed(errno: EBADF))
    #expect(state(&engine, of: 2) == .failed(errno: EFAULT))
    #expect(state(&engine, of: 9) == .none)
  }

  /// Hands out what a submission may take, one call after the other.
  private final class Script: @unchecked Sendable {
    private var steps: [Int]
    private(set) var calls: [Int] = []
    init(_ steps: [Int]) { self.steps = steps }
    func next(_ count: Int) -> Int {
      calls.append(count)
      return steps.isEmpty ? count : steps.removeFirst()
    }
  }

  private func faults(_ script: Script) -> AIOFaults {
    var faults = AIOFaults()
    faults.submit = { script.next($0) }
    return faults
  }

  @Test func aBatchThatIsTakenInPartsLosesNothing() throws {
    let bench = Bench(folder("file"))
    let script = Script([3, 1, -Int(EAGAIN), 5])
    var engine = try LibaioEngine(configuration(), faults: faults(script))
    for slot in 0..<10 { #expect(queue(&engine, bench.read(slot, slot: slot), slot: Int32(slot)) == .queued) }
    engine.commit()
    #expect(script.calls == [10, 7, 6])
    let done = reap(&engine, 10, bench)
    #expect(Set(done.map(\.slot)) == Set(0..<10))
    #expect(done.filter { $0.result == 4096 }.count == 10)
    #expect(script.calls == [10, 7, 6, 6, 1])
    #expect((0..<10).filter { bench.byte(slot: $0) == UInt8($0) }.count == 10)
  }

  @Test func lackOfResourcesWithNothingInFlightIsTriedAgain() throws {
    let bench = Bench(folder("file"))
    let script = Script([-Int(EAGAIN), -Int(EAGAIN), -Int(EAGAIN)])
    var engine = try LibaioEngine(configuration(), faults: faults(script))
    #expect(queue(&engine, bench.read(1, slot: 0), slot: 0) == .queued)
    engine.commit()
    let done = reap(&engine, 1, bench)
    #expect(done.map(\.result) == [4096])
    #expect(done.map(\.failedAtSubmission) == [false])
    #expect(script.calls.count == 4)
  }

  @Test func aRequestCanBeCancelledBeforeAndAfterItsSubmission() throws {
    let bench = Bench(folder("file"))
    // The first batch's second half stays here.
    let script = Script([2, -Int(EAGAIN)])
    var engine = try LibaioEngine(configuration(), faults: faults(script))
    for slot in 0..<4 { #expect(queue(&engine, bench.read(slot, slot: slot), slot: Int32(slot)) == .queued) }
    #expect(state(&engine, of: 0) == .inProgress)
    engine.commit()
    #expect(state(&engine, of: 0) == .inProgress)
    #expect(cancel(&engine, 1))
    #expect(cancel(&engine, 2))
    #expect(!cancel(&engine, 2))
    #expect(state(&engine, of: 1) == .cancelled)
    #expect(state(&engine, of: 2) == .cancelled)
    let done = reap(&engine, 4, bench).sorted { $0.slot < $1.slot }
    #expect(done.map(\.result) == [4096, -Int64(ECANCELED), -Int64(ECANCELED), 4096])
    #expect(state(&engine, of: 1) == .cancelled)
    #expect(state(&engine, of: 3) == .done(bytes: 4096))
    #expect(!cancel(&engine, 3))
    // The slots are free again.
    #expect(queue(&engine, bench.read(7, slot: 1), slot: 1) == .queued)
    engine.commit()
    #expect(reap(&engine, 1, bench).map(\.result) == [4096])
    #expect(bench.byte(slot: 1) == 7)
  }

  @Test func allRequestsOfAFileCanBeCancelledAndNoOthers() throws {
    let bench = Bench(folder("file"))
    let other = Bench(folder("other"))
    var engine = try LibaioEngine(configuration())
    for slot in 0..<6 {
      let descriptor = slot % 2 == 0 ? bench.descriptor : other.descriptor
      #expect(queue(&engine, bench.read(slot, slot: slot, of: descriptor), slot: Int32(slot)) == .queued)
    }
    engine.commit()
    #expect(cancelAll(&engine, ofFile: bench.descriptor) == 3)
    #expect(cancelAll(&engine, ofFile: bench.descriptor) == 0)
    let done = reap(&engine, 6, bench).sorted { $0.slot < $1.slot }
    #expect(done.map { $0.result == 4096 } == [false, true, false, true, false, true])
    #expect(done.filter { $0.result == -Int64(ECANCELED) }.count == 3)
  }

  @Test func aSetIsAwaitedAndOthersCompletionsAreDelivered() throws {
    let bench = Bench(folder("file"))
    var engine = try LibaioEngine(configuration())
    for slot in 0..<8 { #expect(queue(&engine, bench.read(slot, slot: slot), slot: Int32(slot)) == .queued) }
    let awaited: [Int32] = [2, 5]
    let outcome = awaited.withUnsafeBufferPointer { engine.await($0, until: patience, into: bench.completions) }
    #expect(outcome.code == 0)
    var slots = Set((0..<outcome.count).map { bench.completions[$0].slot })
    #expect(slots.isSuperset(of: awaited))
    if outcome.count < 8 { slots.formUnion(reap(&engine, 8 - outcome.count, bench).map(\.slot)) }
    #expect(slots == Set(0..<8))
  }

  @Test func aSetThatIsNotOverAtTheDeadlineSaysEAGAIN() throws {
    let bench = Bench(folder("file"))
    let script = Script([2] + Array(repeating: -Int(EAGAIN), count: 10_000))
    var engine = try LibaioEngine(configuration(), faults: faults(script))
    for slot in 0..<3 { #expect(queue(&engine, bench.read(slot, slot: slot), slot: Int32(slot)) == .queued) }
    let awaited: [Int32] = [2]
    let outcome = awaited.withUnsafeBufferPointer {
      engine.await($0, until: ctrace_monotonic_ns() + 5_000_000, into: bench.completions)
    }
    #expect(outcome.code == EAGAIN)
    #expect(Set((0..<outcome.count).map { bench.completions[$0].slot }) == [0, 1])
    #expect(state(&engine, of: 2) == .inProgress)
  }

  @Test func theContextIsReleasedAfterIdlenessAndSetUpAgain() throws {
    let bench = Bench(folder("file"))
    var engine = try LibaioEngine(configuration { $0.idleReleaseNanoseconds = 1000 })
    #expect(queue(&engine, bench.read(1, slot: 0), slot: 0) == .queued)
    engine.idle(now: 1)
    engine.idle(now: 100_000)
    #expect(engine.hasContext == true)
    engine.commit()
    #expect(reap(&engine, 1, bench).count == 1)
    engine.idle(now: 200_000)
    engine.idle(now: 200_999)
    #expect(engine.hasContext == true)
    engine.idle(now: 201_000)
    #expect(engine.hasContext == false)
    #expect(reapOnce(&engine, until: 0, into: bench.completions) == 0)
    #expect(queue(&engine, bench.read(9, slot: 0), slot: 0) == .queued)
    engine.commit()
    #expect(engine.hasContext == true)
    #expect(reap(&engine, 1, bench).map(\.result) == [4096])
    #expect(bench.byte(slot: 0) == 9)
    // A request starts the time anew.
    engine.idle(now: 300_000)
    #expect(engine.hasContext == true)
  }

  @Test func aContextThatTheSystemHasNoRoomForNamesTheLimit() throws {
    var faults = AIOFaults()
    faults.setUp = { EAGAIN }
    do throws(TraceError) {
      _ = try LibaioEngine(configuration(), faults: faults)
      Issue.record("it was set up")
    } catch {
      #expect(error.message.contains("/proc/sys/fs/aio-max-nr"))
      #expect(error.message.contains("--iodepth"))
    }
  }

  @Test func waitingWorksAfterCompletionsWereNotAnnouncedAnyMore() throws {
    let bench = Bench(folder("file"))
    var engine = try LibaioEngine(configuration())
    for round in 0..<300 {
      #expect(queue(&engine, bench.read(round % 64, slot: 0), slot: 0) == .queued)
      engine.commit()
      // The file's data is there: it is over when it was submitted.
      #expect(reapOnce(&engine, until: patience, into: bench.completions) == 1)
    }
    // fsync is done by another thread of the kernel, so that this waits.
    for _ in 0..<20 {
      #expect(pwrite(bench.descriptor, "dirty", 5, 0) == 5)
      let sync = IOOperation(
        kind: .fsync, isBlockDevice: false, fileDescriptor: bench.descriptor, flags: 0, buffer: nil, offsetBytes: 0, lengthBytes: 0)
      #expect(queue(&engine, sync, slot: 1) == .queued)
      engine.commit()
      #expect(reap(&engine, 1, bench).map(\.result) == [0])
    }
  }

  @Test func whatHasNoAsynchronousCallIsDoneByItsOwn() throws {
    let bench = Bench(folder("file"))
    var engine = try LibaioEngine(configuration())
    var operation = bench.read(0, slot: 0)
    operation.kind = .truncate
    operation.offsetBytes = 8192
    #expect(queue(&engine, operation, slot: 0) == .completed(0))
    var status = stat()
    #expect(fstat(bench.descriptor, &status) == 0)
    #expect(status.st_size == 8192)
  }

  @Test(arguments: [("submissionPolling", "--sqpoll"), ("completionPolling", "--iopoll"), ("fixedBuffers", "--fixed")])
  func optionsOfAnotherEngineAreRefusedByName(option: String, flag: String) {
    var options = EngineOptions()
    options.submissionPolling = option == "submissionPolling"
    options.completionPolling = option == "completionPolling"
    options.fixedBuffers = option == "fixedBuffers"
    #expect(LibaioEngine.refusal(of: options)?.hasPrefix(flag) == true)
    #expect(LibaioEngine.refusal(of: EngineOptions()) == nil)
  }

  @Test func aReplayReportsItsEventLoopAndHowManyRequestsFailedAtSubmission() throws {
    let trace = try makeTrace(
      folder("trace"), files: [regular("/data/a", size: 1 << 20)],
      events: (0..<20).map { access(.read, 0, UInt64($0) * 4096, 4096, at: Int64($0) * 1000) })
    var options = ReplayOptions()
    options.engine = "libaio"
    options.speed = .maximum
    options.targets.scratch = folder.path
    let report = try Replayer(tracePath: trace, options: options).run()
    #expect(report.run.requests == 20)
    #expect(report.run.errors == 0)
    #expect(report.run.submissionErrors == 0)
    #expect(report.options["event-loop"] == (hasRing ? "io_uring" : "epoll"))
  }
}
