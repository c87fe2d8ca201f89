import CTrace
import Glibc

/// Waits for points in time: sleeps until shortly before, then spins.
struct Pacer {
  /// How long before a due time sleeping ends, in nanoseconds.
  let marginNanoseconds: Int64

  /// Measures how late this machine wakes sleepers (the worst of 128 short sleeps) and takes one and a half of it, 50 µs…1 ms.
  /// The 99th percentile is not enough: what it misses is the 99th percentile of the lag.
  static func calibrated() -> Pacer {
    useFineTimers()
    var late: [Int64] = []
    for _ in 0..<128 {
      let due = ctrace_monotonic_ns() + 150_000
      ctrace_sleep_until(due)
      late.append(ctrace_monotonic_ns() - due)
    }
    return Pacer(marginNanoseconds: min(1_000_000, max(50_000, (late.max() ?? 0) * 3 / 2)))
  }

  /// Timer slack of the calling thread to 1 ns (50 µs otherwise); prctl(2).
  static func useFineTimers() { ctrace_use_fine_timers() }

  /// Returns the time (CLOCK_MONOTONIC, nanoseconds) at or after `due`; earlier only when a stop signal came.
  @inline(__always)
  func wait(until due: Int64, from now: Int64) -> Int64 {
    var now = now
    // Long sleeps are cut so that a stop signal that another thread took is seen.
    while due - now > marginNanoseconds {
      ctrace_sleep_until(min(due - marginNanoseconds, now + 50_000_000))
      if ctrace_stop_signal() != 0 { return ctrace_monotonic_ns() }
      now = ctrace_monotonic_ns()
    }
    while now < due {
      ctrace_cpu_relax()
      now = ctrace_monotonic_ns()
    }
    return now
  }
}
