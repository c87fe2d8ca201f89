import CTrace
import Glibc

/// A bounded queue of batches between one producer and some workers. Batches are made once and go round.
final class RequestQueue: @unchecked Sendable {
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let hasRequests: UnsafeMutablePointer<pthread_cond_t>
  private let hasRoom: UnsafeMutablePointer<pthread_cond_t>
  /// The producer is woken when this many batches are free: a wake-up per batch would cost more than the decoding.
  private let wakeAtFree: Int
  private var filled: [RequestBatch] = []
  /// Batches of `filled` before this one are taken.
  private var head = 0
  private var free: [RequestBatch]
  private var closed = false
  private var stopped = false

  /// `batches` of `RequestBatch.capacity` requests each.
  init(batches: Int) {
    lock = .allocate(capacity: 1)
    hasRequests = .allocate(capacity: 1)
    hasRoom = .allocate(capacity: 1)
    wakeAtFree = max(1, batches / 2)
    pthread_mutex_init(lock, nil)
    pthread_cond_init(hasRequests, nil)
    pthread_cond_init(hasRoom, nil)
    free = (0..<batches).map { _ in RequestBatch() }
    filled.reserveCapacity(batches)
  }

  deinit {
    pthread_cond_destroy(hasRequests)
    pthread_cond_destroy(hasRoom)
    pthread_mutex_destroy(lock)
    hasRequests.deallocate()
    hasRoom.deallocate()
    lock.deallocate()
  }

  var hasBatches: Bool {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return head < filled.count || closed
  }

  /// An empty batch, at once or not at all.
  func takeFreeIfAny() -> RequestBatch? {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return free.popLast()
  }

  /// An empty batch; waits for one. Nil when the replay was stopped.
  func takeFree() -> RequestBatch? {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    while free.isEmpty, !stopped { pthread_cond_wait(hasRoom, lock) }
    return stopped ? nil : free.removeLast()
  }

  func put(_ batch: RequestBatch) {
    pthread_mutex_lock(lock)
    batch.claimed = 0
    batch.unfinished = batch.count
    if batch.count == 0 {
      if batch.isReusable { free.append(batch) }
    } else {
      filled.append(batch)
      pthread_cond_broadcast(hasRequests)
    }
    pthread_mutex_unlock(lock)
  }

  /// Up to `limit` requests of the oldest batch; waits for some. Nil when there will be no more.
  func claim(_ limit: Int) -> Claim? {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    while head == filled.count, !closed, !stopped { pthread_cond_wait(hasRequests, lock) }
    return take(limit)
  }

  /// The same without waiting: nil when there is nothing now. `isFinished` tells whether there will be more.
  func claimIfAny(_ limit: Int) -> Claim? {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return take(limit)
  }

  /// Waits until there are requests; false when there will be none.
  func waitForMore() -> Bool {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    while head == filled.count, !closed, !stopped { pthread_cond_wait(hasRequests, lock) }
    return !stopped && head < filled.count
  }

  /// Nothing is left and nothing will come.
  var isFinished: Bool {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return stopped || (closed && head == filled.count)
  }

  /// Requests of a batch that one worker took.
  struct Claim {
    var batch: RequestBatch
    var range: Range<Int>
  }

  private func take(_ limit: Int) -> Claim? {
    guard !stopped, head < filled.count else { return nil }
    let batch = filled[head]
    let start = batch.claimed
    let end = min(batch.count, start + limit)
    batch.claimed = end
    if end == batch.count {
      head += 1
      if head == filled.count || head == 256 {
        filled.removeFirst(head)
        head = 0
      }
    }
    return Claim(batch: batch, range: start..<end)
  }

  /// Gives back claimed requests; a batch that is done is used again.
  func release(_ batch: RequestBatch, _ count: Int) {
    pthread_mutex_lock(lock)
    batch.unfinished -= count
    if batch.unfinished == 0, batch.isReusable {
      free.append(batch)
      if free.count == wakeAtFree { pthread_cond_broadcast(hasRoom) }
    }
    pthread_mutex_unlock(lock)
  }

  /// No more batches will be put.
  func close() {
    pthread_mutex_lock(lock)
    closed = true
    pthread_cond_broadcast(hasRequests)
    pthread_cond_broadcast(hasRoom)
    pthread_mutex_unlock(lock)
  }

  /// Ends all waiting at once; claims and batches are no longer given.
  func stop() {
    pthread_mutex_lock(lock)
    stopped = true
    pthread_cond_broadcast(hasRequests)
    pthread_cond_broadcast(hasRoom)
    pthread_mutex_unlock(lock)
  }
}
