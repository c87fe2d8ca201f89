import CTrace
import Glibc

/// Figures of a running recording on their way from the thread that writes to the thread that shows them.
final class LiveCounts: @unchecked Sendable {
  /// What happened between two looks.
  struct Interval {
    var events: UInt64 = 0
    var bytesRead: UInt64 = 0
    var bytesWritten: UInt64 = 0
    var latency = LatencyHistogram()
  }
  /// What there is.
  struct Standing {
    var dropped: UInt64 = 0
    /// Gaps whose count is not known.
    var unknownGaps: UInt64 = 0
    /// Bytes of the trace, or of memory.
    var storedBytes: UInt64 = 0
  }
  // The writing thread's own.
  private var counted = Interval()
  private var standing = Standing()
  private var lastPublished: Int64 = 0
  // Behind the mutex.
  private var mutex = pthread_mutex_t()
  private var published = (interval: Interval(), standing: Standing())

  init() { pthread_mutex_init(&mutex, nil) }
  deinit { pthread_mutex_destroy(&mutex) }

  func count(_ event: TraceEvent) {
    if event.operation == .gap {
      if let lost = event.sizeIfKnown { standing.dropped &+= lost } else { standing.unknownGaps += 1 }
      return
    }
    counted.events += 1
    if let latency = event.latencyIfKnown { counted.latency.record(latency) }
    switch event.operation {
    case .read, .receive: counted.bytesRead &+= UInt64(max(0, event.resultIfKnown ?? 0))
    case .write, .send: counted.bytesWritten &+= UInt64(max(0, event.resultIfKnown ?? 0))
    default: break
    }
  }

  /// Hands over what was counted, a few times a second.
  func publish(storedBytes: @autoclosure () -> UInt64) {
    let now = ctrace_monotonic_ns()
    guard now - lastPublished > 100_000_000 else { return }
    lastPublished = now
    standing.storedBytes = storedBytes()
    pthread_mutex_lock(&mutex)
    published.interval.events += counted.events
    published.interval.bytesRead &+= counted.bytesRead
    published.interval.bytesWritten &+= counted.bytesWritten
    published.interval.latency.merge(counted.latency)
    published.standing = standing
    pthread_mutex_unlock(&mutex)
    counted = Interval()
  }

  /// What was handed over since the last call, and what there is.
  func take() -> (interval: Interval, standing: Standing) {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    let taken = published
    published.interval = Interval()
    return taken
  }
}
