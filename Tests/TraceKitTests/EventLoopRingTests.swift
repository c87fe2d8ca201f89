import CTrace
import Foundation
import Testing

@testable import TraceKit

/// What the loop does where a ring has its limits; each is forced.
@Suite(.enabled(if: hasRing, "this machine has no io_uring")) struct EventLoopRingTests {
  private typealias Event = EventLoop.Event

  /// Room for what a wait gives.
  private final class Room {
    let events = UnsafeMutablePointer<EventLoop.Event>.allocate(capacity: 4)
    let completions = UnsafeMutablePointer<EventLoop.Completion>.allocate(capacity: 64)
    deinit {
      events.deallocate()
      completions.deallocate()
    }
  }

  /// Gathers events and completions until `enough` or until there is nothing for a long time.
  private func gather(_ loop: inout EventLoop, enough: (_ tokens: [UInt64], _ requests: [UInt64]) -> Bool) -> ([UInt64], [UInt64]) {
    let room = Room()
    let deadline = patience
    var tokens: [UInt64] = []
    var requests: [UInt64] = []
    while !enough(tokens, requests), ctrace_monotonic_ns() < deadline {
      let found = loop.wait(until: deadline, into: room.events, capacity: 4, completions: room.completions, limit: 64)
      for i in 0..<found.events { tokens.append(room.events[i].token) }
      for i in 0..<found.completions { requests.append(room.completions[i].user_data) }
    }
    return (tokens, requests)
  }

  /// Puts a request on the ring that does nothing; waits for room where there is none.
  private func putRequest(_ loop: inout EventLoop, _ number: UInt64, _ requests: inout [UInt64], _ tokens: inout [UInt64]) {
    let room = Room()
    while true {
      if let entry = loop.nextRequest() {
        io_uring_prep_nop(entry)
        entry.pointee.user_data = number
        return
      }
      let found = loop.wait(until: 0, into: room.events, capacity: 4, completions: room.completions, limit: 64)
      for i in 0..<found.events { tokens.append(room.events[i].token) }
      for i in 0..<found.completions { requests.append(room.completions[i].user_data) }
    }
  }

  @Test func setUpThatFailsHalvesItsEntries() throws {
    var faults = EventLoopFaults()
    faults.ringSetUp = { $0 > 4 ? EINVAL : 0 }
    let loop = try EventLoop(.ioUring, entries: 64, faults: faults)
    #expect(loop.ringEntries == 4)
    #expect(loop.backendName == "io_uring")
    #expect(loop.fallbackReason == nil)
  }

  @Test(arguments: [EPERM, ENOSYS, ENOMEM, EINVAL])
  func setUpThatFailsAltogetherLeavesReadinessToEpollAndSaysWhy(code: Int32) throws {
    var faults = EventLoopFaults()
    faults.ringSetUp = { _ in code }
    var loop = try EventLoop(.automatic, entries: 64, faults: faults)
    #expect(loop.backendName == "epoll")
    #expect(loop.fallbackReason?.contains(String(cString: strerror(code))) == true)
    let entry = loop.nextRequest()
    #expect(entry == nil)
    let pipe = TestPipe()
    loop.arm(try loop.register(pipe.reading, token: 3), .readable)
    pipe.put()
    #expect(events(&loop, until: patience).map(\.token) == [3])
  }

  @Test func aPollThatTheRingRefusesIsEpollsForThatDescriptorOnly() throws {
    let refused = TestPipe()
    let taken = TestPipe()
    var faults = EventLoopFaults()
    let number = refused.reading
    faults.refusesPoll = { $0 == number }
    var loop = try EventLoop(.ioUring, entries: 8, faults: faults)
    let one = try loop.register(refused.reading, token: 1)
    let two = try loop.register(taken.reading, token: 2)
    for _ in 0..<3 {
      loop.arm(one, .readable)
      loop.arm(two, .readable)
      #expect(allEvents(&loop).isEmpty)
      refused.put()
      #expect(events(&loop, until: patience).map(\.token) == [1])
      refused.take()
      taken.put()
      #expect(events(&loop, until: patience).map(\.token) == [2])
      taken.take()
    }
    #expect(loop.backendName == "io_uring")
    loop.unregister(one)
    refused.put()
    #expect(allEvents(&loop).isEmpty)
  }

  @Test func aDescriptorThatNeitherTakesIsReportedAsBroken() throws {
    let pipe = TestPipe()
    var faults = EventLoopFaults()
    faults.refusesPoll = { _ in true }
    faults.epollSetUp = { EMFILE }
    faults.stopDescriptor = -1
    var loop = try EventLoop(.ioUring, entries: 8, faults: faults)
    loop.arm(try loop.register(pipe.reading, token: 1), .readable)
    let reported = events(&loop, until: patience)
    #expect(reported.count == 1 && reported[0].isBroken && reported[0].token == 1)
  }

  @Test func overflowDoublesTheRingAndLosesNothing() throws {
    var loop = try EventLoop(.ioUring, entries: 2)
    let pipes = (0..<100).map { _ in TestPipe() }
    var requests: [UInt64] = []
    var tokens: [UInt64] = []
    for (i, pipe) in pipes.enumerated() {
      loop.arm(try loop.register(pipe.reading, token: UInt64(i)), .readable)
      if i % 3 == 0 { putRequest(&loop, 1000 + UInt64(i), &requests, &tokens) }
    }
    pipes.forEach { $0.put() }
    let wanted = Set((0..<100).filter { $0 % 3 == 0 }.map { UInt64(1000 + $0) })
    let (moreTokens, moreRequests) = gather(&loop) { more, others in
      tokens.count + more.count >= 100 && requests.count + others.count >= wanted.count
    }
    tokens += moreTokens
    requests += moreRequests
    #expect(loop.growths > 0)
    #expect(loop.ringEntries >= 4)
    #expect(tokens.sorted() == (0..<100).map { UInt64($0) })
    #expect(Set(requests) == wanted)
    #expect(requests.count == wanted.count)
    #expect(loop.requestsInFlight == 0)
    #expect(allEvents(&loop).isEmpty)
  }

  @Test func beyondTheLimitReadinessMovesToEpollWhileRequestsStay() throws {
    var faults = EventLoopFaults()
    faults.ringSetUp = { $0 > 4 ? EINVAL : 0 }
    var loop = try EventLoop(.ioUring, entries: 2, faults: faults)
    let pipes = (0..<100).map { _ in TestPipe() }
    var registrations: [EventLoop.Registration] = []
    for (i, pipe) in pipes.enumerated() {
      registrations.append(try loop.register(pipe.reading, token: UInt64(i)))
      loop.arm(registrations[i], .readable)
    }
    pipes.forEach { $0.put() }
    // The first overflow makes it grow as far as it may; one of the next ones is beyond that.
    var tokens: [UInt64] = []
    for round in 0..<20 where round == 0 || loop.backendName == "io_uring" {
      for registration in registrations { loop.arm(registration, .readable) }
      (tokens, _) = gather(&loop) { tokens, _ in tokens.count >= 100 }
      #expect(tokens.sorted() == (0..<100).map { UInt64($0) })
    }
    #expect(loop.ringEntries == 4)
    #expect(loop.backendName == "io_uring, readiness on epoll")
    // Both still come, in one wait or another.
    var requests: [UInt64] = []
    tokens = []
    for number in 0..<20 {
      putRequest(&loop, UInt64(number), &requests, &tokens)
      loop.arm(registrations[number], .readable)
    }
    let (moreTokens, moreRequests) = gather(&loop) { more, others in tokens.count + more.count >= 20 && requests.count + others.count >= 20
    }
    #expect((tokens + moreTokens).sorted() == (0..<20).map { UInt64($0) })
    #expect((requests + moreRequests).sorted() == (0..<20).map { UInt64($0) })
  }

  @Test func growingDoesNotWaitForeverForARequestThatAPeerEnds() throws {
    var loop = try EventLoop(.ioUring, entries: 2)
    let silent = TestPipe()
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 8, alignment: 8)
    defer { memory.deallocate() }
    guard let entry = loop.nextRequest() else {
      Issue.record("no room on the ring")
      return
    }
    io_uring_prep_read(entry, silent.reading, memory, 8, 0)
    entry.pointee.user_data = 77
    let pipes = (0..<50).map { _ in TestPipe() }
    for (i, pipe) in pipes.enumerated() { loop.arm(try loop.register(pipe.reading, token: UInt64(i)), .readable) }
    pipes.forEach { $0.put() }
    let (tokens, _) = gather(&loop) { tokens, _ in tokens.count >= 50 }
    #expect(tokens.sorted() == (0..<50).map { UInt64($0) })
    let room = Room()
    let deadline = patience
    while loop.backendName == "io_uring", ctrace_monotonic_ns() < deadline {
      let soon = ctrace_monotonic_ns() + 50_000_000
      let found = loop.wait(until: soon, into: room.events, capacity: 4, completions: room.completions, limit: 64)
      #expect(found.completions == 0)
    }
    #expect(loop.backendName == "io_uring, readiness on epoll")
    #expect(loop.requestsInFlight == 1)
    silent.put()
    let (_, requests) = gather(&loop) { _, requests in !requests.isEmpty }
    #expect(requests == [77])
    #expect(loop.requestsInFlight == 0)
  }

  @Test func noCallIsMadeWhenCompletionsWaitAndNothingIsToBeSubmitted() throws {
    var loop = try EventLoop(.ioUring, entries: 64)
    var requests: [UInt64] = []
    var tokens: [UInt64] = []
    for i in 0..<10 { putRequest(&loop, UInt64(i), &requests, &tokens) }
    loop.submitRequests()
    let before = loop.ringCalls
    let room = Room()
    for _ in 0..<10 {
      let found = loop.wait(until: patience, into: room.events, capacity: 4, completions: room.completions, limit: 1)
      #expect(found.completions == 1)
    }
    #expect(loop.ringCalls == before)
  }

  @Test func eventsAndRequestsOfOneRingComeTogether() throws {
    var loop = try EventLoop(.ioUring, entries: 8)
    let pipe = TestPipe()
    loop.arm(try loop.register(pipe.reading, token: 5), .readable)
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 8, alignment: 8)
    defer { memory.deallocate() }
    let other = TestPipe()
    guard let entry = loop.nextRequest() else {
      Issue.record("no room on the ring")
      return
    }
    io_uring_prep_read(entry, other.reading, memory, 8, 0)
    entry.pointee.user_data = 6
    other.put(3)
    pipe.put()
    let (tokens, requests) = gather(&loop) { $0.count >= 1 && $1.count >= 1 }
    #expect(tokens == [5])
    #expect(requests == [6])
  }

  @Test(arguments: [EventLoopChoice.ioUring, .epoll])
  func aForkedChildHasItsOwnAndLeavesTheParentsAlone(backend: EventLoopChoice) throws {
    var loop = try EventLoop(backend, entries: 8)
    let pipe = TestPipe()
    let registration = try loop.register(pipe.reading, token: 5)
    loop.arm(registration, .readable)
    #expect(allEvents(&loop).isEmpty)
    let verdict = TestPipe()
    let child = fork()
    if child == 0 {
      // What was armed is armed here as well; the byte is left for the parent.
      pipe.put()
      var good = events(&loop, until: patience).map(\.token) == [5]
      loop.arm(registration, .readable)
      good = good && events(&loop, until: patience).map(\.token) == [5] && loop.backendName == backend.rawValue
      if good { verdict.put() }
      _exit(good ? 0 : 1)
    }
    #expect(child > 0)
    var status: Int32 = 0
    #expect(waitpid(child, &status, 0) == child)
    #expect(status == 0)
    // The child took nothing of the parent's.
    #expect(events(&loop, until: patience).map(\.token) == [5])
    loop.arm(registration, .readable)
    #expect(events(&loop, until: patience).map(\.token) == [5])
  }
}
