/// A reusable buffer of events.
public final class EventBatch {
  /// Room for `capacity` events, of which the first `count` are valid.
  public let events: UnsafeMutablePointer<TraceEvent>
  public let capacity: Int
  public internal(set) var count = 0
  /// Number, in the trace, of the first event of the batch; the others follow without a hole.
  public internal(set) var firstEvent: UInt64 = 0

  public init(capacity: Int = 1024) {
    precondition(capacity > 0)
    self.capacity = capacity
    events = .allocate(capacity: capacity)
  }

  deinit { events.deallocate() }

  /// The valid events; not to be kept beyond the next fill.
  public var buffer: UnsafeBufferPointer<TraceEvent> { UnsafeBufferPointer(start: events, count: count) }
}
