/// Keeps the pauses that recorded threads made between their requests, for `--think-time`: a request starts no earlier after its
/// thread's last completion than it did when recorded. One worker owns it.
struct ThinkClock: ~Copyable {
  private struct Row: BitwiseCopyable {
    /// When the thread's last request ended, as recorded, and when it completed here; nanoseconds after the start.
    var recordedEnd: Int64
    var completed: Int64
  }

  let isEnabled: Bool
  private var rows: UnsafeMutablePointer<Row>
  private var capacity: Int
  /// A thread's first request has nothing to wait for.
  private static let none = Row(recordedEnd: .max, completed: 0)

  init(isEnabled: Bool) {
    self.isEnabled = isEnabled
    capacity = isEnabled ? 64 : 1
    rows = .allocate(capacity: capacity)
    rows.initialize(repeating: Self.none, count: capacity)
  }

  deinit { rows.deallocate() }

  /// The earliest start of a request in nanoseconds after the replay's start.
  @inline(__always)
  func earliest(_ request: UnsafePointer<ReplayRequest>) -> Int64 {
    let stream = Int(request.pointee.stream)
    guard stream < capacity else { return 0 }
    let row = rows[stream]
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
    let stream = Int(request.pointee.stream)
    if stream >= capacity { grow(stream) }
    let end = request.pointee.startNanoseconds &+ (request.pointee.recordedLatencyNanoseconds ?? 0)
    let row = rows[stream]
    rows[stream] = Row(recordedEnd: row.recordedEnd == .max ? end : max(row.recordedEnd, end), completed: max(row.completed, completed))
  }

  @inline(never)
  private mutating func grow(_ stream: Int) {
    let larger = max(stream + 1, capacity * 2)
    let memory = UnsafeMutablePointer<Row>.allocate(capacity: larger)
    memory.initialize(repeating: Self.none, count: larger)
    memory.update(from: rows, count: capacity)
    rows.deallocate()
    rows = memory
    capacity = larger
  }
}
