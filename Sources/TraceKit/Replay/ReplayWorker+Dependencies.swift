import CTrace

/// `--order dependencies` with engines that complete one request at a time: workers share a table of what they hold, so that one
/// waits for what another is doing.
final class SharedDependencies: @unchecked Sendable {
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let changed: UnsafeMutablePointer<pthread_cond_t>
  private let table: UnsafeMutablePointer<InFlightTable>

  /// - Parameter workers: each holds one request.
  init(workers: Int) {
    lock = .allocate(capacity: 1)
    changed = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
    pthread_cond_init(changed, nil)
    table = .allocate(capacity: 1)
    table.initialize(to: InFlightTable(slots: workers, order: .dependencies))
  }

  deinit {
    table.deinitialize(count: 1)
    table.deallocate()
    pthread_cond_destroy(changed)
    pthread_mutex_destroy(lock)
    changed.deallocate()
    lock.deallocate()
  }

  /// Takes the next request of the queue, in the queue's order whatever worker asks. Nil when there is none now.
  func claim(_ queue: RequestQueue) -> (claim: RequestQueue.Claim, slot: Int32)? {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    guard let claim = queue.claimIfAny(1) else { return nil }
    let request = UnsafePointer(claim.batch.requests + claim.range.lowerBound)
    let ordinal = claim.batch.firstOrdinal &+ UInt64(request.pointee.ordinalOffset)
    return (claim, table.pointee.hold(request, number: 0, ordinal: ordinal, due: 0))
  }

  /// Waits until everything has completed that the request must follow: when that would have been, had the replayer lost no time;
  /// nil when the replay was stopped.
  func waitUntilReady(_ slot: Int32) -> Int64? {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    while table.pointee.slots[Int(slot)].waitsFor > 0 {
      if ctrace_stop_signal() != 0 { return nil }
      pthread_cond_wait(changed, lock)
    }
    return table.pointee.slots[Int(slot)].ready
  }

  /// The request is done.
  func release(_ slot: Int32, undelayedEnd: Int64) {
    pthread_mutex_lock(lock)
    table.pointee.release(slot, undelayedEnd: undelayedEnd)
    while table.pointee.readyCount > 0 { _ = table.pointee.takeReady() }
    pthread_cond_broadcast(changed)
    pthread_mutex_unlock(lock)
  }
}

extension ReplayWorker where Engine: ~Copyable {
  mutating func runWithDependencies(_ shared: SharedDependencies) {
    while ctrace_stop_signal() == 0, !hasEnded {
      guard let (claim, slot) = shared.claim(queue) else {
        if queue.isFinished || !queue.waitForMore() { break }
        continue
      }
      let request = UnsafePointer(claim.batch.requests + claim.range.lowerBound)
      // First the schedule, then the others: waiting for them is lateness.
      waitUntilDue(request, claim.batch)
      if let ready = shared.waitUntilReady(slot) { _ = perform(request, claim.batch, now: ctrace_monotonic_ns(), ready: ready) }
      shared.release(slot, undelayedEnd: undelayedEnd)
      reportProgress(1)
      queue.release(claim.batch, 1)
    }
  }

  private func waitUntilDue(_ request: UnsafePointer<ReplayRequest>, _ batch: RequestBatch) {
    guard isTimed else { return }
    let ordinal = batch.firstOrdinal &+ UInt64(request.pointee.ordinalOffset)
    let due = anchor &+ schedule.due(startNanoseconds: request.pointee.startNanoseconds, ordinal: ordinal) &+ control.shift
    let now = ctrace_monotonic_ns()
    if now < due { _ = control.pacer.wait(until: due, from: now) }
  }
}
