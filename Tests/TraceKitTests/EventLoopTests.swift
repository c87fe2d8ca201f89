import CTrace
import Foundation
import Testing

@testable import TraceKit

@Suite struct EventLoopTests {
  static let backends: [EventLoopChoice] = hasRing ? [.epoll, .ioUring] : [.epoll]

  @Test(arguments: backends)
  func aDescriptorReportsOnceAndAgainWhenItIsArmedAgain(backend: EventLoopChoice) throws {
    var loop = try EventLoop(backend, entries: 8)
    #expect(loop.backendName == backend.rawValue)
    let pipe = TestPipe()
    let registration = try loop.register(pipe.reading, token: 42)
    pipe.put()
    #expect(allEvents(&loop).isEmpty)
    loop.arm(registration, .readable)
    let first = events(&loop, until: patience)
    #expect(first.map(\.token) == [42])
    #expect(first.allSatisfy { $0.isReadable && !$0.isWritable && !$0.isBroken })
    #expect(allEvents(&loop).isEmpty)
    loop.arm(registration, .readable)
    #expect(events(&loop, until: patience).map(\.token) == [42])
    pipe.take()
    loop.arm(registration, .readable)
    #expect(allEvents(&loop).isEmpty)
    pipe.put()
    #expect(events(&loop, until: patience).map(\.token) == [42])
  }

  @Test(arguments: backends)
  func armingReplacesWhatWasWaitedFor(backend: EventLoopChoice) throws {
    var loop = try EventLoop(backend, entries: 8)
    var ends: [Int32] = [-1, -1]
    #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
    defer { ends.forEach { close($0) } }
    let registration = try loop.register(ends[0], token: 1)
    loop.arm(registration, .readable)
    #expect(allEvents(&loop).isEmpty)
    loop.arm(registration, [.readable, .writable])
    let both = events(&loop, until: patience)
    #expect(both.count == 1 && both[0].isWritable && !both[0].isReadable)
    loop.arm(registration, .writable)
    loop.arm(registration, [])
    #expect(allEvents(&loop).isEmpty)
    loop.arm(registration, .writable)
    loop.arm(registration, .readable)
    #expect(allEvents(&loop).isEmpty)
    #expect(write(ends[1], "x", 1) == 1)
    let last = events(&loop, until: patience)
    #expect(last.count == 1 && last[0].isReadable && !last[0].isWritable)
  }

  @Test(arguments: backends)
  func errorsAndHangUpsWakeBothDirections(backend: EventLoopChoice) throws {
    for waitsToWrite in [false, true] {
      var loop = try EventLoop(backend, entries: 8)
      var ends: [Int32] = [-1, -1]
      #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
      let registration = try loop.register(ends[0], token: 1)
      if waitsToWrite {
        // Full, so that only the hang-up can wake it.
        let junk = [UInt8](repeating: 0, count: 4096)
        while send(ends[0], junk, junk.count, Int32(MSG_DONTWAIT)) > 0 {}
      }
      loop.arm(registration, waitsToWrite ? .writable : .readable)
      #expect(allEvents(&loop).isEmpty)
      close(ends[1])
      let woken = events(&loop, until: patience)
      #expect(woken.count == 1 && woken[0].isReadable && woken[0].isWritable && woken[0].isBroken && woken[0].isPeerClosed)
      close(ends[0])
    }
  }

  @Test(arguments: backends)
  func aPeerThatOnlyStopsSendingWakesReadersAndNotWriters(backend: EventLoopChoice) throws {
    var loop = try EventLoop(backend, entries: 8)
    var ends: [Int32] = [-1, -1]
    #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
    defer { ends.forEach { close($0) } }
    let junk = [UInt8](repeating: 0, count: 4096)
    while send(ends[0], junk, junk.count, Int32(MSG_DONTWAIT)) > 0 {}
    #expect(shutdown(ends[1], Int32(SHUT_WR)) == 0)
    let registration = try loop.register(ends[0], token: 1)
    loop.arm(registration, .writable)
    #expect(allEvents(&loop).isEmpty)
    loop.arm(registration, .readable)
    let woken = events(&loop, until: patience)
    #expect(woken.count == 1 && woken[0].isReadable && woken[0].isPeerClosed && !woken[0].isBroken)
  }

  @Test(arguments: backends)
  func anEventOfAClosedAndReusedDescriptorIsIgnored(backend: EventLoopChoice) throws {
    var loop = try EventLoop(backend, entries: 8)
    let first = TestPipe()
    let old = try loop.register(first.reading, token: 1)
    loop.arm(old, .readable)
    // The poll is in the kernel and fires, but nobody has looked at it when the descriptor is closed.
    _ = allEvents(&loop)
    first.put()
    let number = first.reading
    // A duplicate keeps the old file alive, and with it what the kernel knows about it.
    let duplicate = dup(first.reading)
    first.closeBoth()
    let second = TestPipe()
    if second.reading != number { #expect(dup2(second.reading, number) == number) }
    defer {
      close(duplicate)
      if second.reading != number { close(number) }
    }
    let new = try loop.register(number, token: 2)
    loop.arm(old, .readable)
    #expect(allEvents(&loop).isEmpty)
    loop.arm(new, .readable)
    #expect(allEvents(&loop).isEmpty)
    second.put()
    #expect(events(&loop, until: patience).map(\.token) == [2])
    // Unregistering the old one does not touch the new one.
    loop.arm(new, .readable)
    loop.unregister(old)
    #expect(events(&loop, until: patience).map(\.token) == [2])
    loop.arm(new, .readable)
    loop.unregister(new)
    #expect(allEvents(&loop).isEmpty)
  }

  @Test(arguments: backends)
  func anUnregisteredSocketIsReallyClosed(backend: EventLoopChoice) throws {
    var loop = try EventLoop(backend, entries: 8)
    var ends: [Int32] = [-1, -1]
    #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
    let registration = try loop.register(ends[0], token: 1)
    loop.arm(registration, .readable)
    #expect(allEvents(&loop).isEmpty)
    loop.unregister(registration)
    close(ends[0])
    var status = pollfd(fd: ends[1], events: Int16(POLLIN), revents: 0)
    #expect(poll(&status, 1, 10_000) == 1)
    #expect(Int32(status.revents) & POLLHUP != 0)
    close(ends[1])
  }

  @Test(arguments: backends)
  func moreEventsThanRoomComeFromTheNextWaits(backend: EventLoopChoice) throws {
    var loop = try EventLoop(backend, entries: 8)
    let pipes = (0..<200).map { _ in TestPipe() }
    for (i, pipe) in pipes.enumerated() {
      loop.arm(try loop.register(pipe.reading, token: UInt64(i)), .readable)
      pipe.put()
    }
    #expect(Set(allEvents(&loop, capacity: 3).map(\.token)) == Set(0..<200))
  }

  @Test(arguments: backends)
  func aRegularFileIsAlwaysReady(backend: EventLoopChoice) throws {
    var loop = try EventLoop(backend, entries: 8)
    let folder = Folder()
    let descriptor = open(folder("file"), O_RDWR | O_CREAT, 0o600)
    defer { close(descriptor) }
    let registration = try loop.register(descriptor, token: 9)
    for _ in 0..<3 {
      loop.arm(registration, .readable)
      let ready = events(&loop, until: patience)
      #expect(ready.map(\.token) == [9])
      #expect(ready.allSatisfy { $0.isReadable })
    }
    #expect(allEvents(&loop).isEmpty)
  }

  @Test(arguments: backends)
  func aDeadlineEndsAWaitAndNoneReturnsAtOnce(backend: EventLoopChoice) throws {
    var loop = try EventLoop(backend, entries: 8)
    let memory = UnsafeMutablePointer<EventLoop.Event>.allocate(capacity: 4)
    defer { memory.deallocate() }
    #expect(loop.wait(until: 0, into: memory, capacity: 4) == 0)
    let deadline = ctrace_monotonic_ns() + 3_000_000
    #expect(events(&loop, until: deadline).isEmpty)
    #expect(ctrace_monotonic_ns() >= deadline)
    // A time that has passed does not wait, however long ago it was.
    #expect(loop.wait(until: 1, into: memory, capacity: 4) == 0)
  }

  @Test(arguments: backends)
  func badDescriptorsAreRefused(backend: EventLoopChoice) throws {
    var loop = try EventLoop(backend, entries: 8)
    #expect(throws: TraceError.self) { _ = try loop.register(-1, token: 0) }
    #expect(throws: TraceError.self) { _ = try loop.register(1_000_000, token: 0) }
  }

  // MARK: The stop signal

  @Test(arguments: backends)
  func theStopSignalWakesEveryLoopWhateverThreadTookIt(backend: EventLoopChoice) throws {
    let stop = ctrace_event_descriptor()
    defer { close(stop) }
    var faults = EventLoopFaults()
    faults.stopDescriptor = stop
    var loop = try EventLoop(backend, entries: 8, faults: faults)
    var other = try EventLoop(backend, entries: 8, faults: faults)
    let memory = UnsafeMutablePointer<EventLoop.Event>.allocate(capacity: 4)
    defer { memory.deallocate() }
    let deadline = patience
    let helper = Thread {
      ctrace_sleep_until(ctrace_monotonic_ns() + 5_000_000)
      ctrace_event_signal(stop)
    }
    helper.start()
    #expect(loop.wait(until: deadline, into: memory, capacity: 4) == 0)
    ctrace_event_signal(stop)
    #expect(other.wait(until: deadline, into: memory, capacity: 4) == 0)
    // A signal that was forgotten again leaves the loop waiting for the next one.
    ctrace_event_signal(stop)
    #expect(loop.wait(until: deadline, into: memory, capacity: 4) == 0)
    #expect(ctrace_monotonic_ns() < deadline)
    let pipe = TestPipe()
    let registration = try loop.register(pipe.reading, token: 5)
    loop.arm(registration, .readable)
    pipe.put()
    #expect(events(&loop, until: patience).map(\.token) == [5])
  }
}
