/// Counts for a ledger while events are written. One thread's at a time.
final class LedgerTally {
  /// Counts of one operation; plain memory, since every event changes one.
  private struct Count: BitwiseCopyable {
    var events: UInt64 = 0
    var errors: UInt64 = 0
    var bytes: UInt64 = 0
  }
  /// By raw value of the operation.
  private let counts: UnsafeMutablePointer<Count>
  private var gaps = RecordingLedger()

  init() {
    counts = .allocate(capacity: 256)
    counts.initialize(repeating: Count(), count: 256)
  }

  deinit { counts.deallocate() }

  func count(_ event: TraceEvent) {
    if event.operation == .gap { return gaps.note(gap: event) }
    let count = counts + Int(event.operation.rawValue)
    count.pointee.events &+= 1
    if event.result >= 0 {
      if event.operation.movesBytes { count.pointee.bytes &+= UInt64(event.result) }
    } else if event.result != TraceEvent.unknownResult {
      count.pointee.errors &+= 1
    }
  }

  /// Takes back an event that was counted and not written after all. A gap stays: it is a loss all the same.
  func takeBack(_ event: TraceEvent) {
    guard event.operation != .gap else { return }
    let count = counts + Int(event.operation.rawValue)
    count.pointee.events &-= 1
    if event.result >= 0 {
      if event.operation.movesBytes { count.pointee.bytes &-= UInt64(event.result) }
    } else if event.result != TraceEvent.unknownResult {
      count.pointee.errors &-= 1
    }
  }

  /// A ledger of what was counted, for one route.
  func ledger(route name: String, costPerEventNanoseconds: Double?) -> RecordingLedger {
    var ledger = gaps
    var route = RecordingLedger.Route(name: name, costPerEventNanoseconds: costPerEventNanoseconds)
    for operation in TraceOperation.allCases {
      let count = counts[Int(operation.rawValue)]
      guard count.events > 0 else { continue }
      route.operations.append(
        RecordingLedger.OperationCount(operation: operation.name, events: count.events, errors: count.errors, bytes: count.bytes))
    }
    ledger.routes = [route]
    return ledger
  }
}

extension TraceOperation {
  /// A result that is not negative is a number of bytes that moved.
  fileprivate var movesBytes: Bool {
    switch self {
    case .read, .write, .send, .receive, .copyRange, .sendfile, .splice: true
    default: false
    }
  }
}
