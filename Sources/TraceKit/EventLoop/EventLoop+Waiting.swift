import CTrace

/// Waiting, and sorting what the ring and epoll report.
extension EventLoop {
  /// Waits for descriptors. Ends early at a stop signal, and sometimes without a reason. For users without requests on the ring.
  /// - Parameters:
  ///   - deadline: CLOCK_MONOTONIC in nanoseconds; 0 not to wait at all.
  ///   - capacity: room for events, at least 1; what does not fit comes from the next call.
  /// - Returns: how many were written.
  mutating func wait(until deadline: Int64, into events: UnsafeMutablePointer<Event>, capacity: Int) -> Int {
    assert(requestsInFlight == 0, "completions of requests would be lost")
    return wait(until: deadline, into: events, capacity: capacity, completions: scratch, limit: Self.scratchCount).events
  }

  /// Waits for descriptors and for requests on the ring: for the first of either. Submits what was put on the ring. Makes no system
  /// call when completions are there and nothing is to be submitted.
  /// - Parameters:
  ///   - deadline: CLOCK_MONOTONIC in nanoseconds; 0 not to wait at all.
  ///   - capacity: room for events, at least 1.
  ///   - limit: room for completions, at least 1. What does not fit comes from the next call.
  /// - Returns: how many of each were written.
  @inline(__always)
  mutating func wait(
    until deadline: Int64, into events: UnsafeMutablePointer<Event>, capacity: Int, completions: UnsafeMutablePointer<Completion>,
    limit: Int
  ) -> (events: Int, completions: Int) {
    if needsAttention || forks != ctrace_fork_generation() {
      return waitAttentively(until: deadline, events, capacity, completions, limit)
    }
    ring.enter(until: deadline)
    if ring.hasOverflow { noteOverflow() }
    let drained = ring.drain(completions, limit: limit)
    if drained.allUserData & Self.ownBit == 0, drained.allFlags & Self.moreFlag == 0 {
      requestsInFlight &-= drained.count
      return (0, drained.count)
    }
    return sort(completions, drained.count, events, capacity, 0)
  }

  /// IORING_CQE_F_MORE: the request stays on the ring.
  static var moreFlag: UInt32 { 1 << 1 }

  /// With events that are owed, without a ring, while it grows, or after a fork.
  @inline(never)
  private mutating func waitAttentively(
    until deadline: Int64, _ events: UnsafeMutablePointer<Event>, _ capacity: Int, _ completions: UnsafeMutablePointer<Completion>,
    _ limit: Int
  ) -> (events: Int, completions: Int) {
    if forks != ctrace_fork_generation() { adoptAfterFork() }
    var count = payOwed(events, capacity)
    let mayWait = count == 0 && !epollIsReady
    guard ring.isPresent else {
      if count < capacity { count += collectEpoll(until: mayWait ? deadline : 0, events + count, capacity - count) }
      return (count, 0)
    }
    ring.enter(until: mayWait ? growthDeadline == 0 ? deadline : min(deadline, growthDeadline) : 0)
    if ring.hasOverflow { noteOverflow() }
    let drained = ring.drain(completions, limit: limit)
    let sorted = sort(completions, drained.count, events, capacity, count)
    count = sorted.events
    if epollIsReady, count < capacity { count += collectEpoll(until: 0, events + count, capacity - count) }
    if growthDeadline != 0 { growIfPossible() }
    needsAttention = !owed.isEmpty || epollIsReady || growthDeadline != 0
    return (count, sorted.completions)
  }

  private mutating func payOwed(_ events: UnsafeMutablePointer<Event>, _ capacity: Int) -> Int {
    var count = 0
    while count < capacity, let index = owed.popLast() {
      let bits = table.rows[index].owed
      table.rows[index].owed = 0
      table.rows[index].interest = []
      events[count] = Event(token: table.rows[index].token, bits: bits)
      count += 1
    }
    return count
  }

  /// Takes the loop's own completions out of a number of them, and makes events of them.
  @inline(never)
  private mutating func sort(
    _ completions: UnsafeMutablePointer<Completion>, _ count: Int, _ events: UnsafeMutablePointer<Event>, _ capacity: Int, _ written: Int
  ) -> (events: Int, completions: Int) {
    var kept = 0
    var eventCount = written
    for i in 0..<count {
      let completion = completions[i]
      if completion.user_data & Self.ownBit == 0 {
        if completion.flags & Self.moreFlag == 0 { requestsInFlight -= 1 }
        completions[kept] = completion
        kept += 1
      } else if completion.user_data & Self.nested != 0 {
        noteNested(completion)
      } else if let index = table.index(ofKey: completion.user_data) {
        notePoll(index, completion.result, events, capacity, &eventCount)
      }
    }
    if epollIsReady, eventCount < capacity {
      eventCount += collectEpoll(until: 0, events + eventCount, capacity - eventCount)
    }
    return (eventCount, kept)
  }

  private mutating func noteNested(_ completion: Completion) {
    guard completion.user_data != Self.removal, completion.user_data & 0xFFFF_FFFF == nestedGeneration else { return }
    isNestedArmed = false
    epollIsReady = true
    needsAttention = true
  }

  private mutating func notePoll(
    _ index: Int, _ result: Int32, _ events: UnsafeMutablePointer<Event>, _ capacity: Int, _ count: inout Int
  ) {
    guard table.rows[index].isOnRing else { return }
    table.rows[index].isOnRing = false
    // A ring also wakes a descriptor that is waited for to be written when the peer stops sending, and would do so at once again:
    // that one is epoll's too.
    let expected = table.rows[index].interest.bits | Epoll.Bits.error | Epoll.Bits.hangUp
    if result < 0 ? result != -EBADF : UInt32(result) & expected == 0 { return moveToEpoll(index) }
    report(index, result < 0 ? Epoll.Bits.error : UInt32(result), events, capacity, &count)
  }

  /// Writes an event, or keeps it for the next wait when there is no room. The stop signal ends a wait and is nobody's event.
  @inline(__always)
  private mutating func report(
    _ index: Int, _ bits: UInt32, _ events: UnsafeMutablePointer<Event>, _ capacity: Int, _ count: inout Int
  ) {
    if index == stopIndex { return noteStop() }
    guard count < capacity else { return owe(index, bits) }
    table.rows[index].interest = []
    events[count] = Event(token: table.rows[index].token, bits: bits)
    count += 1
  }

  /// A stop signal that was forgotten again, or was another process's, leaves the loop waiting for the next.
  private mutating func noteStop() {
    table.rows[stopIndex].interest = []
    guard ctrace_stop_signal() == 0 else { return }
    ctrace_event_clear(table.rows[stopIndex].descriptor)
    arm(stopIndex, .readable)
  }

  private mutating func collectEpoll(until deadline: Int64, _ events: UnsafeMutablePointer<Event>, _ capacity: Int) -> Int {
    guard epoll.isPresent else { return 0 }
    let wanted = min(capacity, Self.scratchCount)
    let found = epoll.wait(until: deadline, into: ready, limit: wanted)
    var count = 0
    for i in 0..<found {
      guard let index = table.index(ofKey: ready[i].data), !table.rows[index].interest.isEmpty else { continue }
      report(index, ready[i].events, events, capacity, &count)
    }
    if ring.isPresent {
      epollIsReady = found == wanted
      if !epollIsReady { armNested() }
    }
    return count
  }
}
