import CTrace
import Glibc

/// Requests to write what a recorder has in memory, from any thread, and the answers to those who wait for them.
final class FlightTrigger: @unchecked Sendable {
  struct Request {
    var number: UInt64
    /// In words, without names of files.
    var reason: String
    /// End of the window that is wanted, CLOCK_MONOTONIC.
    var endNanoseconds: UInt64
  }
  /// What became of a request.
  struct Answer: Sendable {
    var succeeded: Bool
    var text: String
  }
  private var mutex = pthread_mutex_t()
  private var answered = pthread_cond_t()
  private var pending: [Request] = []
  private var answers: [UInt64: Answer] = [:]
  private var waiting: Set<UInt64> = []
  private var nextNumber: UInt64 = 1

  init() {
    pthread_mutex_init(&mutex, nil)
    pthread_cond_init(&answered, nil)
  }

  deinit {
    pthread_cond_destroy(&answered)
    pthread_mutex_destroy(&mutex)
  }

  private func locked<T>(_ body: () -> T) -> T {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    return body()
  }

  /// Asks for what happened until now, or until `endNanoseconds` of CLOCK_MONOTONIC.
  func request(_ reason: String, endNanoseconds: UInt64? = nil) {
    let end = endNanoseconds ?? UInt64(ctrace_monotonic_ns())
    locked {
      pending.append(Request(number: nextNumber, reason: reason, endNanoseconds: end))
      nextNumber += 1
    }
  }

  /// Asks, and waits for the answer; nil when it does not come in time.
  func answer(to reason: String, timeoutSeconds: Int) -> Answer? {
    let number = locked {
      pending.append(Request(number: nextNumber, reason: reason, endNanoseconds: UInt64(ctrace_monotonic_ns())))
      waiting.insert(nextNumber)
      nextNumber += 1
      return nextNumber - 1
    }
    let deadline = ctrace_realtime_ns() + Int64(timeoutSeconds) * 1_000_000_000
    var until = timespec(tv_sec: Int(deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    while answers[number] == nil {
      if pthread_cond_timedwait(&answered, &mutex, &until) == ETIMEDOUT { break }
    }
    waiting.remove(number)
    return answers.removeValue(forKey: number)
  }

  /// The latest end among requests made before `time` (CLOCK_MONOTONIC); nil when there are none.
  func latestEnd(before time: UInt64) -> UInt64? {
    locked { pending.filter { $0.endNanoseconds < time }.map(\.endNanoseconds).max() }
  }

  /// Takes the requests made before `time`, which one trace answers.
  func take(before time: UInt64) -> [Request] {
    locked {
      let taken = pending.filter { $0.endNanoseconds < time }
      pending.removeAll { $0.endNanoseconds < time }
      return taken
    }
  }

  func finish(_ requests: [Request], _ answer: Answer) {
    locked {
      for request in requests where waiting.contains(request.number) { answers[request.number] = answer }
      pthread_cond_broadcast(&answered)
    }
  }
}
