/// Keeps the pauses that recorded threads made between their requests, for `--think-time`: a request starts no earlier after its
/// thread's last completion than it did when recorded. One worker owns it.
struct ThinkClock: ~Copyable {
  private struct Row: BitwiseCopyable {
    /// When the thread's last request ended, as recorded, and when it completed here; nanoseconds after the start.
    var recordedEnd: Int64
    var completed: Int64
  }

  let isEnabled: Bool
  /// A thread's first request has nothing to wait for.
  private var rows = RowsByStream(none: Row(recordedEnd: .max, completed: 0))

  init(isEnabled: Bool) { self.isEnabled = isEnabled }

  /// The earliest start of a request in nanoseconds after the replay's start.
  @inline(__always)
  func earliest(_ request: UnsafePointer<ReplayRequest>) -> Int64 {
    let row = rows.value(request.pointee.stream)
    return row.completed &+ max(0, row.recordedEnd == .max ? 0 : request.pointee.startNanoseconds &- row.recordedEnd)
  }

  /// A request of a thread has completed.
  @inline(__always)
  mutating func finish(_ request: UnsafePointer<ReplayRequest>, completed: Int64) {
    guard isEnabled else { return }
    note(request, completed)
  }

  @inline(never)
  private mutating func note(_ request: UnsafePointer<ReplayRequest>, _ completed: Int64) {
    let end = request.pointee.startNanoseconds &+ (request.pointee.recordedLatencyNanoseconds ?? 0)
    let row = rows.value(request.pointee.stream)
    rows.set(
      request.pointee.stream,
      Row(recordedEnd: row.recordedEnd == .max ? end : max(row.recordedEnd, end), completed: max(row.completed, completed)))
  }
}
