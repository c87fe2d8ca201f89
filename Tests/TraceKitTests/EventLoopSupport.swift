import CTrace
import Foundation

@testable import TraceKit

/// This machine has io_uring.
let hasRing = Ring.unavailability() == nil

/// Long enough that a wait that should have been woken fails the test instead of ending by itself.
var patience: Int64 { ctrace_monotonic_ns() + 20_000_000_000 }

/// A pipe whose ends are closed with it.
final class TestPipe {
  let reading: Int32
  let writing: Int32
  private var open = true

  init() {
    var ends: [Int32] = [-1, -1]
    precondition(ctrace_pipe(&ends) == 0)
    (reading, writing) = (ends[0], ends[1])
  }

  deinit {
    if open { closeBoth() }
  }

  func closeBoth() {
    open = false
    close(reading)
    close(writing)
  }

  func put(_ count: Int = 1) { precondition(write(writing, [UInt8](repeating: 7, count: count), count) == count) }
  func take(_ count: Int = 1) {
    var bytes = [UInt8](repeating: 0, count: count)
    precondition(read(reading, &bytes, count) == count)
  }
}

/// Waits for events until one comes or `deadline` has passed.
func events(_ loop: inout EventLoop, until deadline: Int64, capacity: Int = 16) -> [EventLoop.Event] {
  let memory = UnsafeMutablePointer<EventLoop.Event>.allocate(capacity: capacity)
  defer { memory.deallocate() }
  repeat {
    let count = loop.wait(until: deadline, into: memory, capacity: capacity)
    if count > 0 { return Array(UnsafeBufferPointer(start: memory, count: count)) }
  } while ctrace_monotonic_ns() < deadline
  return []
}

/// What a loop has now, gathered until nothing more comes.
func allEvents(_ loop: inout EventLoop, capacity: Int = 16) -> [EventLoop.Event] {
  var all: [EventLoop.Event] = []
  while true {
    let more = events(&loop, until: ctrace_monotonic_ns() + 30_000_000, capacity: capacity)
    if more.isEmpty { return all }
    all += more
  }
}
