/// The requests with the longest service times: a fixed number of rows, kept in order of size by insertion. Most requests fail the
/// comparison with `threshold`, and cost no more.
struct WorstRequests {
  static let rows = 20
  struct Row {
    var number: UInt64
    var offsetBytes: Int64
    var lengthBytes: Int
    var submitted: Int64
    var lag: Int64
    var service: Int64
    var result: Int64
    var file: UInt32
    var kind: IOOperation.Kind
  }

  private let memory: UnsafeMutablePointer<Row>
  private(set) var count = 0
  /// A request must take longer than this, in nanoseconds, to be kept.
  private(set) var threshold: Int64 = -1

  init() { memory = .allocate(capacity: Self.rows) }
  func deallocate() { memory.deallocate() }

  /// Keeps a request whose service time is above `threshold`.
  @inline(never)
  mutating func add(_ request: UnsafePointer<ReplayRequest>, number: UInt64, submitted: Int64, lag: Int64, service: Int64, result: Int64) {
    var position = min(count, Self.rows - 1)
    while position > 0, memory[position - 1].service < service {
      memory[position] = memory[position - 1]
      position -= 1
    }
    memory[position] = Row(
      number: number, offsetBytes: request.pointee.offsetBytes, lengthBytes: request.pointee.lengthBytes, submitted: submitted, lag: lag,
      service: service, result: result, file: request.pointee.file, kind: request.pointee.kind)
    if count < Self.rows { count += 1 }
    if count == Self.rows { threshold = memory[Self.rows - 1].service }
  }

  /// The kept requests, longest first.
  var all: [Row] { (0..<count).map { memory[$0] } }
}
