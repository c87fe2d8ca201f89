/// One plain value for each recorded thread (stream) of a replay, found by its number. One worker owns it.
struct RowsByStream<Row: BitwiseCopyable>: ~Copyable {
  private var rows: UnsafeMutablePointer<Row>
  private var capacity: Int
  private let none: Row

  /// - Parameter none: the value of a stream that has none yet.
  init(none: Row) {
    self.none = none
    capacity = 64
    rows = .allocate(capacity: capacity)
    rows.initialize(repeating: none, count: capacity)
  }

  deinit { rows.deallocate() }

  @inline(__always)
  func value(_ stream: UInt32) -> Row { Int(stream) < capacity ? rows[Int(stream)] : none }

  @inline(__always)
  mutating func set(_ stream: UInt32, _ row: Row) {
    if Int(stream) >= capacity { grow(Int(stream)) }
    rows[Int(stream)] = row
  }

  @inline(never)
  private mutating func grow(_ stream: Int) {
    let larger = max(stream + 1, capacity * 2)
    let memory = UnsafeMutablePointer<Row>.allocate(capacity: larger)
    memory.initialize(repeating: none, count: larger)
    memory.update(from: rows, count: capacity)
    rows.deallocate()
    rows = memory
    capacity = larger
  }
}
