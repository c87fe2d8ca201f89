import CTrace

/// The loop for engines that keep several requests in flight: fills the engine with what may start, then collects completions.
extension ReplayWorker where Engine: ~Copyable {
  /// What the loop goes by. It lives in one place on the stack, apart from the engine.
  private struct State: ~Copyable {
    var table: InFlightTable
    var overlaps: OverlapCounter
    let completions: UnsafeMutablePointer<IOCompletion>
    var claim: RequestQueue.Claim?
    var position = 0
    var inFlight = 0
    /// CLOCK_MONOTONIC of the next request's due time; nil when there is none to wait for.
    var nextDue: Int64?
    /// The queue has nothing now, and may have later.
    var isStarved = false
    /// The engine took nothing more before something completes.
    var isBusy = false
    var isExhausted = false

    init(slots: Int, order: ReplayOrder, countsOverlaps: Bool) {
      overlaps = OverlapCounter(slots: slots, isEnabled: countsOverlaps)
      table = InFlightTable(slots: slots, order: order)
      completions = .allocate(capacity: slots)
      delayed = .allocate(capacity: slots)
    }

    deinit {
      completions.deallocate()
      delayed.deallocate()
    }

    /// Slots that wait for their thread's think time to pass; only with `--think-time`.
    let delayed: UnsafeMutablePointer<Int32>
    var delayedCount = 0

    /// Nothing is in flight or ready.
    var isIdle: Bool { inFlight == 0 && table.readyCount == 0 }
  }

  /// How long a wait lasts at most, so that a stop signal that another thread took is seen.
  private static var longestWait: Int64 { 50_000_000 }

  mutating func runInFlight() {
    var state = State(
      slots: InFlightTable.slots(iodepth: iodepth, order: control.order), order: control.order,
      countsOverlaps: control.writes && iodepth > 1)
    var now = ctrace_monotonic_ns()
    while true {
      now = fill(&state, now: now)
      if hasEnded { leave(&state) }
      if state.isIdle {
        if state.isExhausted, state.delayedCount == 0 { break }
        if let due = state.nextDue {
          now = rest(until: due, from: now)
        } else if state.isStarved {
          state.claim = queue.claim(claimLimit)
          if let claim = state.claim { state.position = claim.range.lowerBound } else { state.isExhausted = true }
          now = ctrace_monotonic_ns()
        }
        continue
      }
      now = collect(&state, now: now)
    }
    tally.pointee.overlaps = state.overlaps.overlaps
  }

  /// Waits until a request is due while none is in flight; the engine hears of the time that passes.
  @inline(__always)
  private mutating func rest(until due: Int64, from start: Int64) -> Int64 {
    var now = start
    while due - now > 2 * Self.longestWait, ctrace_stop_signal() == 0, !hasEnded {
      engine.idle(now: now)
      ctrace_sleep_until(now + Self.longestWait)
      now = ctrace_monotonic_ns()
    }
    return hasEnded ? now : control.pacer.wait(until: due, from: now)
  }

  /// The engine can do no more: what it holds has completed with errors, what waits for others is not begun.
  @inline(never)
  private mutating func leave(_ state: inout State) {
    while state.table.readyCount > 0 { _ = state.table.takeReady() }
    if let claim = state.claim { queue.release(claim.batch, claim.range.count) }
    state.claim = nil
    state.nextDue = nil
    state.delayedCount = 0
    state.isExhausted = true
  }

  // MARK: Submitting

  /// Gives the engine everything that may start now; returns the time.
  @inline(__always)
  private mutating func fill(_ state: inout State, now: Int64) -> Int64 {
    state.nextDue = nil
    state.isBusy = false
    var queued = false
    if think.isEnabled { wakeDelayed(&state, now) }
    while state.table.readyCount > 0, state.inFlight < iodepth, !state.isBusy, !hasEnded {
      let slot = state.table.takeReady()
      if think.isEnabled, delay(slot, &state, now) { continue }
      submit(slot, &state, now)
      queued = true
    }
    while state.inFlight < iodepth, state.table.freeCount > 0, !state.isBusy {
      guard advance(&state) else { break }
      let claim = state.claim.unsafelyUnwrapped
      let request = UnsafePointer(claim.batch.requests + state.position)
      let ordinal = claim.batch.firstOrdinal &+ UInt64(request.pointee.ordinalOffset)
      let number = claim.batch.firstNumber &+ UInt64(request.pointee.numberOffset)
      var due: Int64 = 0
      if isTimed {
        due = schedule.due(startNanoseconds: request.pointee.startNanoseconds, ordinal: ordinal) &+ control.shift
        if now < anchor &+ due {
          state.nextDue = anchor &+ due
          break
        }
        if let late = lateness(due, now) {
          if control.late == .drop {
            state.position += 1
            continue
          }
          due = late
        }
      }
      state.position += 1
      let slot = state.table.hold(request, number: number, ordinal: ordinal, due: due)
      if state.table.slots[Int(slot)].waitsFor == 0 {
        if think.isEnabled, delay(slot, &state, now) { continue }
        submit(slot, &state, now)
        queued = true
      }
    }
    if queued { engine.commit() }
    return now
  }

  /// Puts a ready slot aside when its thread still thinks.
  @inline(never)
  private func delay(_ slot: Int32, _ state: inout State, _ now: Int64) -> Bool {
    let due = anchor &+ withUnsafePointer(to: &state.table.slots[Int(slot)].request) { think.earliest($0) }
    guard now < due, ctrace_stop_signal() == 0 else { return false }
    state.table.slots[Int(slot)].due = due
    state.delayed[state.delayedCount] = slot
    state.delayedCount += 1
    state.nextDue = min(state.nextDue ?? due, due)
    return true
  }

  /// Makes the delayed slots ready whose time has come.
  @inline(never)
  private func wakeDelayed(_ state: inout State, _ now: Int64) {
    var kept = 0
    for i in 0..<state.delayedCount {
      let slot = state.delayed[i]
      let due = state.table.slots[Int(slot)].due
      if due <= now || ctrace_stop_signal() != 0 {
        state.table.makeReady(slot)
      } else {
        state.delayed[kept] = slot
        kept += 1
        state.nextDue = min(state.nextDue ?? due, due)
      }
    }
    state.delayedCount = kept
  }

  /// Makes `position` point at a request; false when there is none now.
  @inline(__always)
  private mutating func advance(_ state: inout State) -> Bool {
    if let claim = state.claim {
      if state.position < claim.range.upperBound, ctrace_stop_signal() == 0, !hasEnded { return true }
      return nextClaim(&state)
    }
    return nextClaim(&state)
  }

  @inline(never)
  private mutating func nextClaim(_ state: inout State) -> Bool {
    if let claim = state.claim { queue.release(claim.batch, claim.range.count) }
    let isEnding = ctrace_stop_signal() != 0 || hasEnded
    state.claim = isEnding ? nil : queue.claimIfAny(claimLimit)
    state.isStarved = false
    if let claim = state.claim {
      state.position = claim.range.lowerBound
      return true
    }
    if isEnding || queue.isFinished { state.isExhausted = true } else { state.isStarved = true }
    return false
  }

  @inline(__always)
  private mutating func submit(_ slot: Int32, _ state: inout State, _ now: Int64) {
    let row = state.table.slots + Int(slot)
    row.pointee.submitted = now
    let number = row.pointee.number
    var next = withUnsafePointer(to: &row.pointee.request) { operation($0, number: number, slot: Int(slot)) }
    if checks != nil {
      row.pointee.submitted = beginCheck(&next, row.pointee.request.file, number: number, slot: Int(slot))
    }
    let status = engine.queue(next, slot: slot)
    if status == .queued {
      noteSubmission(row, now)
      withUnsafePointer(to: &row.pointee.request) { state.overlaps.begin($0, slot: slot) }
      state.inFlight += 1
    } else if status == .busy {
      state.table.makeReady(slot)
      state.isBusy = true
    } else {
      noteSubmission(row, now)
      finish(slot, status.rawValue, ctrace_monotonic_ns(), &state)
    }
  }

  @inline(__always)
  private func noteSubmission(_ row: UnsafeMutablePointer<InFlightTable.Slot>, _ now: Int64) {
    if isTimed { tally.pointee.recordSubmission(due: row.pointee.due, submitted: now &- anchor) }
    if tracksInversions { control.noteSubmission(row.pointee.number) }
  }

  // MARK: Collecting

  /// Takes completions; waits for one, but not beyond the time when the next request is due. Returns the time.
  @inline(__always)
  private mutating func collect(_ state: inout State, now: Int64) -> Int64 {
    var deadline = now &+ Self.longestWait
    if state.isStarved { deadline = now &+ 1_000_000 }
    if let due = state.nextDue {
      let wake = due &- control.pacer.marginNanoseconds
      deadline = wake <= now ? 0 : min(deadline, wake)
    }
    // Nothing is in flight, but the engine takes nothing yet: look again at once.
    if state.inFlight == 0 { deadline = 0 }
    let count = engine.reap(until: deadline, into: state.completions)
    let time = ctrace_monotonic_ns()
    if count > 0 {
      for i in 0..<count {
        state.inFlight -= 1
        state.overlaps.end(slot: state.completions[i].slot)
        if state.completions[i].failedAtSubmission { tally.pointee.recordSubmissionError() }
        finish(state.completions[i].slot, state.completions[i].result, time, &state)
      }
      reportProgress(count)
    } else if deadline == 0 {
      ctrace_cpu_relax()
    }
    return time
  }

  @inline(__always)
  private mutating func finish(_ slot: Int32, _ result: Int64, _ completed: Int64, _ state: inout State) {
    let row = state.table.slots + Int(slot)
    let undelayed = max(row.pointee.due, row.pointee.ready)
    withUnsafePointer(to: &row.pointee.request) {
      tally.pointee.record(
        $0, number: row.pointee.number, ordinal: row.pointee.ordinal, due: row.pointee.due, undelayed: undelayed,
        submitted: row.pointee.submitted &- anchor, completed: completed &- anchor, result: result)
    }
    if log != nil {
      log!.append(
        row.pointee.request, number: row.pointee.number, submitted: row.pointee.submitted &- anchor,
        completed: completed &- anchor, result: result)
    }
    if think.isEnabled { withUnsafePointer(to: &row.pointee.request) { think.finish($0, completed: completed &- anchor) } }
    if let checks { checks.end(slot: Int(slot), result: result) }
    state.table.release(slot, undelayedEnd: undelayed &+ (completed &- row.pointee.submitted))
    if result < 0, Engine.targetKind != .files { noteFailure() }
  }
}
