/// When each request could have been submitted by a replayer that loses no time of its own, so that lateness that comes from storage
/// which is slower than recorded is told from lateness of the replayer. A request that must follow another one can't start before
/// that one has ended; how long it took is the storage's. What the replayer loses, it loses in both chains of requests and shows as
/// the difference. One worker at a time uses it.
struct DependencyClock: ~Copyable {
  /// The latest request of a recorded thread. Nanoseconds; `undelayedEnd` after the replay's start.
  private struct Row: BitwiseCopyable {
    var recordedEnd: Int64
    var undelayedEnd: Int64
  }

  /// Nothing has to be waited for.
  static let never = Int64.min
  let isEnabled: Bool
  private var rows = RowsByStream(none: Row(recordedEnd: .max, undelayedEnd: never))

  init(isEnabled: Bool) { self.isEnabled = isEnabled }

  /// When the request before it in its thread ended, had the replayer lost no time; `never` when it had not ended as recorded.
  @inline(__always)
  func ready(_ request: UnsafePointer<ReplayRequest>) -> Int64 {
    let row = rows.value(request.pointee.stream)
    return row.recordedEnd <= request.pointee.startNanoseconds ? row.undelayedEnd : Self.never
  }

  /// A request of a thread has completed. - Parameter undelayedEnd: when it would have without delay.
  @inline(__always)
  mutating func finish(_ request: UnsafePointer<ReplayRequest>, undelayedEnd: Int64) {
    guard isEnabled else { return }
    let end = request.pointee.startNanoseconds &+ (request.pointee.recordedLatencyNanoseconds ?? 0)
    rows.set(request.pointee.stream, Row(recordedEnd: end, undelayedEnd: undelayedEnd))
  }
}
