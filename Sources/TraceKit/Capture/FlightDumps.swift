import Glibc

/// The traces that triggers made, written one at a time beside the recording.
final class FlightDumps: @unchecked Sendable {
  private var mutex = pthread_mutex_t()
  private var worker: WorkerThread?
  private var busy = false
  private var kept: [String] = []
  private var written = PieceSums()
  private var counts = (written: 0, failed: 0, removed: 0)

  init() { pthread_mutex_init(&mutex, nil) }
  deinit { pthread_mutex_destroy(&mutex) }

  private func locked<T>(_ body: () -> T) -> T {
    pthread_mutex_lock(&mutex)
    defer { pthread_mutex_unlock(&mutex) }
    return body()
  }

  var isBusy: Bool { locked { busy } }
  var count: Int { locked { counts.written } }
  var failures: Int { locked { counts.failed } }
  var removed: Int { locked { counts.removed } }
  var sums: PieceSums { locked { written } }

  /// Runs `body` on a thread of its own, or here when there is no room for one.
  func begin(_ body: @escaping @Sendable (FlightDumps) -> Void) {
    waitUntilIdle()
    locked { busy = true }
    do throws(TraceError) {
      worker = try WorkerThread {
        body(self)
        self.locked { self.busy = false }
      }
    } catch {
      body(self)
      locked { busy = false }
    }
  }

  func waitUntilIdle() {
    worker?.join()
    worker = nil
  }

  func write(_ dump: FlightDump) -> FlightTrigger.Answer {
    do throws(TraceError) {
      let outcome = try dump.write()
      locked {
        counts.written += 1
        kept.append(dump.path)
        written.add(outcome.totals, sizeBytes: outcome.sizeBytes, threads: outcome.threadKeys)
      }
      let reason = dump.metadata.trigger ?? ""
      let cut = outcome.isCut ? ", from where --last-memory reached back to" : ""
      return .init(
        succeeded: true,
        text: "\(PrintableText.escaped(dump.path)): \(outcome.totals.events) events, \(ByteCount.text(outcome.sizeBytes))\(cut) (\(reason))"
      )
    } catch {
      locked { counts.failed += 1 }
      return .init(succeeded: false, text: error.message)
    }
  }

  /// Removes what this recording wrote first, until no more than `limit` traces are left.
  func removeOldest(keeping limit: Int, report: (String) -> Void) {
    while let oldest = locked({ kept.count > limit ? kept.first : nil }) {
      locked { _ = kept.removeFirst() }
      if unlink(oldest) == 0 || errno == ENOENT {
        locked { counts.removed += 1 }
      } else {
        report(TraceError(path: oldest, "remove it", errno: errno).message)
      }
    }
  }
}
