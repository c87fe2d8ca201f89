import CTrace

/// Decodes a trace on a thread of its own, a few batches ahead of the one who reads them. The reader belongs to that thread until
/// `finish`.
final class EventPipeline: @unchecked Sendable {
  private static let batchEvents = 4096
  private static let batchCount = 4
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let changed: UnsafeMutablePointer<pthread_cond_t>
  private let reader: TraceReader
  private let filter: EventFilter
  private let batches: [EventBatch]
  /// Batches that were filled and that were taken; the difference is what is ready.
  private var filled = 0
  private var taken = 0
  private var isDone = false
  private var isCancelled = false
  private var failure: TraceError?
  private var thread: WorkerThread?

  /// Begins where the filter's window begins.
  init(_ reader: TraceReader, _ filter: EventFilter) throws(TraceError) {
    self.reader = reader
    self.filter = filter
    lock = .allocate(capacity: 1)
    changed = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
    pthread_cond_init(changed, nil)
    batches = (0..<Self.batchCount).map { _ in EventBatch(capacity: Self.batchEvents) }
    try filter.begin(reader)
    thread = try WorkerThread { [self] in decode() }
  }

  deinit {
    pthread_cond_destroy(changed)
    pthread_mutex_destroy(lock)
    changed.deallocate()
    lock.deallocate()
  }

  private func decode() {
    var number = 0
    while waitForRoom(number) {
      var failed: TraceError?
      var isLast = true
      let batch = batches[number % Self.batchCount]
      do throws(TraceError) {
        isLast = try !reader.next(into: batch) || filter.isPast(batch, of: reader)
      } catch { failed = error }
      pthread_mutex_lock(lock)
      failure = failed
      if isLast { isDone = true } else { filled += 1 }
      pthread_cond_signal(changed)
      pthread_mutex_unlock(lock)
      if isLast { return }
      number += 1
    }
  }

  private func waitForRoom(_ number: Int) -> Bool {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    while number - taken >= Self.batchCount, !isCancelled { pthread_cond_wait(changed, lock) }
    return !isCancelled
  }

  /// The next events; the batch before it is given back. Nil at the end.
  /// - Parameter isFirst: true for the first call, which has none to give back.
  func next(isFirst: Bool) throws(TraceError) -> EventBatch? {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    if !isFirst {
      taken += 1
      pthread_cond_signal(changed)
    }
    while filled == taken, !isDone { pthread_cond_wait(changed, lock) }
    if filled > taken { return batches[taken % Self.batchCount] }
    if let failure { throw failure }
    return nil
  }

  /// Ends the thread; the reader is the caller's again.
  func finish() {
    pthread_mutex_lock(lock)
    isCancelled = true
    pthread_cond_signal(changed)
    pthread_mutex_unlock(lock)
    thread?.join()
    thread = nil
  }
}
