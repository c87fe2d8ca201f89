/// Puts nearly sorted events into the order of their starts, in bounded memory: producers finish requests in another order
/// than they began them.
public struct ReorderWindow: ~Copyable {
  private var pending: [TraceEvent] = []
  /// Most events that are held back.
  public let capacity: Int

  public init(capacity: Int = 1 << 20) { self.capacity = capacity }

  public var count: Int { pending.count }

  public mutating func append(_ event: TraceEvent) { pending.append(event) }

  /// Gives `body` all events that start before `watermark`, in order; of more than `capacity`, the earliest beyond it too.
  public mutating func drain(
    before watermark: Int64, _ body: (TraceEvent) throws(TraceError) -> Void
  ) throws(TraceError) {
    guard !pending.isEmpty else { return }
    // The sort is stable and takes runs as they come: almost linear for merged sorted streams.
    pending.sort { $0.startNanoseconds < $1.startNanoseconds }
    var low = 0
    var high = pending.count
    while low < high {
      let middle = (low + high) / 2
      if pending[middle].startNanoseconds < watermark { low = middle + 1 } else { high = middle }
    }
    let ready = max(low, pending.count - capacity)
    for i in 0..<ready { try body(pending[i]) }
    pending.removeFirst(ready)
  }

  /// Gives `body` everything that is left.
  public mutating func drainAll(_ body: (TraceEvent) throws(TraceError) -> Void) throws(TraceError) {
    try drain(before: Int64.max, body)
    for event in pending { try body(event) }
    pending.removeAll(keepingCapacity: true)
  }
}
