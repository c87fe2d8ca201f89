import CTrace

/// Which backend a descriptor is armed with, and moving it from one to the other.
extension EventLoop {
  mutating func forget(_ index: Int) {
    let row = table.rows[index]
    if row.isOnRing {
      removePoll(index)
      // The poll holds the file: a socket would stay open behind its closed descriptor until the removal has been done.
      ring.poll()
    }
    if row.isInEpoll, epoll.isPresent { epoll.forget(row.descriptor) }
    if row.owed != 0 { owed.removeAll { $0 == index } }
    table.remove(index)
  }

  mutating func arm(_ index: Int, _ interest: Interest) {
    if forks != ctrace_fork_generation() { adoptAfterFork() }
    let row = table.rows[index]
    if row.owed != 0 {
      owed.removeAll { $0 == index }
      table.rows[index].owed = 0
    } else if row.interest == interest {
      return
    }
    if row.isOnRing { removePoll(index) }
    table.rows[index].interest = interest
    if readinessIsOnEpoll || row.usesEpoll {
      armInEpoll(index)
    } else if !interest.isEmpty {
      armOnRing(index)
    }
  }

  // MARK: The ring

  private mutating func armOnRing(_ index: Int) {
    let row = table.rows[index]
    guard let entry = ring.nextEntry() else { return armInEpoll(index) }
    io_uring_prep_poll_add(entry, row.descriptor, row.interest.bits)
    // Flags that no kernel knows.
    if let refuses = faults.refusesPoll, refuses(row.descriptor) { entry.pointee.len = 1 << 30 }
    entry.pointee.user_data = Self.ownBit | table.key(index)
    table.rows[index].isOnRing = true
  }

  /// Takes a poll off the ring. What it still reports is ignored.
  private mutating func removePoll(_ index: Int) {
    if let entry = ring.nextEntry() {
      io_uring_prep_poll_remove(entry, Self.ownBit | table.key(index))
      entry.pointee.user_data = Self.removal
    }
    table.rows[index].isOnRing = false
    table.outdatePolls(index)
  }

  // MARK: epoll

  private mutating func makeEpoll() {
    do throws(TraceError) { epoll = try Epoll(faults) } catch { epoll = .absent }
  }

  mutating func armInEpoll(_ index: Int) {
    let row = table.rows[index]
    if !epoll.isPresent {
      makeEpoll()
      guard epoll.isPresent else { return owe(index, Epoll.Bits.error) }
    }
    let code: Int32
    if row.interest.isEmpty {
      // Hang-ups are reported whatever it is armed for.
      if row.isInEpoll { epoll.forget(row.descriptor) }
      table.rows[index].isInEpoll = false
      return
    } else {
      code = epoll.arm(
        row.descriptor, row.interest.bits, data: table.key(index), isKnown: row.isInEpoll)
    }
    switch code {
    case 0: table.rows[index].isInEpoll = true
    // epoll takes no regular files, since they are always ready; a ring says so by its poll.
    case EPERM: return owe(index, row.interest.rawValue)
    default: return owe(index, Epoll.Bits.error)
    }
    if ring.isPresent { armNested() }
  }

  /// Polls the epoll descriptor in the ring.
  mutating func armNested() {
    guard !isNestedArmed else { return }
    guard let entry = ring.nextEntry() else {
      epollIsReady = true
      needsAttention = true
      return
    }
    nestedGeneration = (nestedGeneration &+ 1) & 0xFFFF_FFFF
    io_uring_prep_poll_add(entry, epoll.descriptor, Epoll.Bits.readable)
    entry.pointee.user_data = Self.ownBit | Self.nested | nestedGeneration
    isNestedArmed = true
  }

  /// The next wait reports `bits` for a row.
  mutating func owe(_ index: Int, _ bits: UInt32) {
    if table.rows[index].owed == 0 { owed.append(index) }
    table.rows[index].owed |= bits
    needsAttention = true
  }

  /// The ring refused to poll a descriptor: it is epoll's from now on.
  mutating func moveToEpoll(_ index: Int) {
    table.rows[index].usesEpoll = true
    armInEpoll(index)
  }

  // MARK: Other rings

  /// The completion queue overflowed; the kernel keeps what did not fit. A ring of twice the size is to take this one's place.
  @inline(never)
  mutating func noteOverflow() {
    guard growthDeadline == 0, !readinessIsOnEpoll else { return }
    growthDeadline = ctrace_monotonic_ns() + Self.growthPatienceNanoseconds
    needsAttention = true
  }

  /// Grows once nothing is in flight and everything was taken from the ring; gives up where that does not come about.
  mutating func growIfPossible() {
    if requestsInFlight == 0, ring.isDrained {
      growthDeadline = 0
      let entries = ring.entries
      if !replaceRing(entries: entries * 2, onlyAbove: entries) { return moveReadinessToEpoll() }
      growths += 1
    } else if ctrace_monotonic_ns() > growthDeadline {
      growthDeadline = 0
      moveReadinessToEpoll()
    }
  }

  /// Puts everything that is armed on another ring. What became ready meanwhile is still ready when it is polled there.
  /// - Returns: false when there is none with more than `least` entries; all is as before then.
  private mutating func replaceRing(entries: Int, onlyAbove least: Int) -> Bool {
    do throws(TraceError) {
      let other = try ring.remade(entries: entries, setUpFault: faults.ringSetUp)
      guard other.entries > least else { return false }
      ring = other
    } catch { return false }
    isNestedArmed = false
    for index in 0..<table.count where table.rows[index].isOnRing {
      table.rows[index].isOnRing = false
      armOnRing(index)
    }
    if epoll.isPresent { armNested() }
    return true
  }

  /// The ring is as large as the kernel makes one: readiness moves to epoll, requests stay.
  private mutating func moveReadinessToEpoll() {
    if !epoll.isPresent {
      // Without epoll it goes on as before: slower, since the kernel keeps what does not fit, but nothing is lost.
      makeEpoll()
      guard epoll.isPresent else { return }
    }
    readinessIsOnEpoll = true
    for index in 0..<table.count where table.rows[index].isOnRing {
      removePoll(index)
      armInEpoll(index)
    }
    armNested()
  }

  // MARK: fork

  /// In a child: leaves the parent's ring and epoll descriptor alone, and makes others.
  @inline(never)
  mutating func adoptAfterFork() {
    forks = ctrace_fork_generation()
    requestsInFlight = 0
    growthDeadline = 0
    epollIsReady = false
    let hadEpoll = epoll.isPresent
    epoll = .absent
    isNestedArmed = false
    if ring.isPresent {
      do throws(TraceError) {
        ring = try ring.remade(entries: ring.entries, setUpFault: faults.ringSetUp)
      } catch {
        fallbackReason = error.message
        ring = .absent
      }
    }
    if !ring.isPresent { readinessIsOnEpoll = true }
    needsAttention = !ring.isPresent || !owed.isEmpty
    if hadEpoll || !ring.isPresent { makeEpoll() }
    for index in 0..<table.count where table.rows[index].isUsed {
      table.rows[index].isOnRing = false
      table.rows[index].isInEpoll = false
      guard !table.rows[index].interest.isEmpty, table.rows[index].owed == 0 else { continue }
      if readinessIsOnEpoll || table.rows[index].usesEpoll { armInEpoll(index) } else { armOnRing(index) }
    }
  }
}
