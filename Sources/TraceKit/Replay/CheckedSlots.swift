import CTrace
import Glibc

/// One worker's side of `--verify`: for each slot the request in it, and memory of its own to read into and to write from, so that
/// requests in flight never share any.
final class CheckedSlots {
  private let verification: ReplayVerification
  private let operations: UnsafeMutablePointer<IOOperation>
  private let rows: UnsafeMutablePointer<Row>
  private let writes: WorkerBuffers
  private let givesBack: Bool
  private(set) var result = VerificationResult()
  /// Memory above this is given back after its request.
  private static let keptBytes = 1 << 20

  private struct Row: BitwiseCopyable {
    var isActive = false
    var target: Int32 = 0
    var start: UInt64 = 0
    var request: UInt64 = 0
  }

  /// - Parameters:
  ///   - largestBytes: the longest request.
  ///   - isRegistered: the memory is registered with the kernel, and stays.
  init(_ verification: ReplayVerification, slots: Int, largestBytes: Int, isRegistered: Bool) {
    self.verification = verification
    operations = .allocate(capacity: slots)
    rows = .allocate(capacity: slots)
    rows.initialize(repeating: Row(), count: slots)
    writes = WorkerBuffers(largestBytes: largestBytes, slots: slots, isExclusive: true)
    givesBack = !isRegistered
  }

  deinit {
    operations.deallocate()
    rows.deallocate()
    writes.deallocate()
  }

  /// Memory that writes come from, for engines that register it.
  var arena: UnsafeRawBufferPointer { UnsafeRawBufferPointer(writes.arena) }

  /// A request is about to be handed to the engine. Called again for one that the engine did not take.
  func begin(_ operation: inout IOOperation, slot: Int, target: Int32, request: UInt64) {
    if operation.kind == .write { operation.buffer = writes.memory(slot: slot, bytes: operation.lengthBytes) }
    guard !rows[slot].isActive else { return }
    (operations + slot).initialize(to: operation)
    let start = verification.begin(operation, target: Int(target), request: request)
    rows[slot] = Row(isActive: true, target: target, start: start, request: request)
  }

  /// The request of a slot has ended.
  func end(slot: Int, result outcome: Int64) {
    let (row, operation) = (rows[slot], operations[slot])
    rows[slot].isActive = false
    verification.end(
      operation, target: Int(row.target), request: row.request, start: row.start, result: outcome, into: &result)
    if givesBack, operation.lengthBytes > Self.keptBytes, let buffer = operation.buffer {
      madvise(buffer, operation.lengthBytes, Int32(MADV_DONTNEED))
    }
  }
}
