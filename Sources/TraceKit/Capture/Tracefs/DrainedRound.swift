import CTrace
import Glibc

/// Pages of one CPU's buffer, as they were read, or records of one CPU's ring.
final class DrainedPages: @unchecked Sendable {
  enum Content: Sendable {
    /// Pages of the kernel's ring buffer (RingPage).
    case pages
    /// Records that programs in the kernel stored (trace_call_record).
    case callRecords
  }
  let content: Content
  let bytes: UnsafeMutableRawPointer
  let capacity: Int
  fileprivate(set) var count = 0
  /// Events were lost while these pages filled.
  fileprivate(set) var isLossy = false

  init(_ content: Content = .pages, capacity: Int) {
    self.content = content
    self.capacity = capacity
    bytes = .allocate(byteCount: capacity, alignment: 4096)
  }

  deinit { bytes.deallocate() }

  /// Reads one page behind those that are there. - Returns: its bytes; 0 when there is none, or no room.
  func readPage(_ descriptor: Int32, pageBytes: Int) -> Int {
    guard count + pageBytes <= capacity else { return 0 }
    while true {
      let got = read(descriptor, bytes + count, pageBytes)
      if got < 0, errno == EINTR { continue }
      guard got > 0 else { return 0 }
      if got < pageBytes { memset(bytes + count + got, 0, pageBytes - got) }
      count += pageBytes
      return got
    }
  }

  /// Bytes that it can still take.
  var room: Int { capacity - count }

  /// Copies bytes, for which there must be room, behind those that are there.
  func append(_ source: UnsafeRawPointer, count added: Int) {
    precondition(added >= 0 && added <= room)
    (bytes + count).copyMemory(from: source, byteCount: added)
    count += added
  }

  func markLossy() { isLossy = true }
}

/// What one look at all buffers brought.
struct DrainedRound: Sendable {
  struct Loss: Sendable {
    /// Index of the buffer.
    var stream: Int
    var lostEvents: UInt64
    /// The interval in which they were lost, in nanoseconds of the trace clock.
    var from: UInt64
    var to: UInt64
  }
  /// Pages by buffer.
  var pages: [(stream: Int, pages: DrainedPages)] = []
  /// No event of a later round is older than this, by buffer.
  var bounds: [UInt64] = []
  var losses: [Loss] = []
  var bytes = 0
  var isLast = false

  /// - Parameter marksPages: the loss lies somewhere in this round's pages of the stream; false where they say themselves.
  mutating func note(_ loss: Loss, marksPages: Bool = true) {
    losses.append(loss)
    if marksPages { markLossy(loss.stream) }
  }

  func markLossy(_ stream: Int) { for entry in pages where entry.stream == stream { entry.pages.markLossy() } }
}

/// Rounds on their way from the thread that empties the kernel's buffers to the one that understands them; bounded in bytes.
final class DrainedQueue: @unchecked Sendable {
  private var mutex = pthread_mutex_t()
  private var arrived = pthread_cond_t()
  private var rounds: [DrainedRound] = []
  private var queuedBytes = 0
  private let limitBytes: Int

  init(limitBytes: Int) {
    self.limitBytes = limitBytes
    pthread_mutex_init(&mutex, nil)
    pthread_cond_init(&arrived, nil)
  }

  deinit {
    pthread_cond_destroy(&arrived)
    pthread_mutex_destroy(&mutex)
  }

  var hasRoom: Bool {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    return queuedBytes < limitBytes
  }

  func put(_ round: DrainedRound) {
    pthread_mutex_lock(&mutex)
    rounds.append(round)
    queuedBytes += round.bytes
    pthread_cond_signal(&arrived)
    pthread_mutex_unlock(&mutex)
  }

  /// All rounds that are there; waits for one.
  func takeAll() -> [DrainedRound] {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    while rounds.isEmpty { pthread_cond_wait(&arrived, &mutex) }
    let all = rounds
    rounds = []
    return all
  }

  /// What a taken round held is free again.
  func release(_ bytes: Int) {
    pthread_mutex_lock(&mutex)
    queuedBytes -= bytes
    pthread_mutex_unlock(&mutex)
  }
}
