import CTrace

/// Walks records that programs in the kernel stored, as events like those of a page (RingPage).
struct CallRecords {
  private var position: UnsafeRawPointer
  private var left: Int
  private static let recordBytes = MemoryLayout<trace_call_record>.stride

  /// - Parameter bytes: how many there are; a cut record at their end is left out.
  init(_ start: UnsafeRawPointer, bytes: Int) {
    position = start
    left = bytes / Self.recordBytes
  }

  /// The next record; nil behind the last one.
  @inline(__always)
  mutating func next() -> RingPage.Event? {
    guard left > 0 else { return nil }
    let record = position
    let fixed = record.assumingMemoryBound(to: trace_call_record.self)
    let records = min(1 + Int(fixed.pointee.following), left)
    left -= records
    position += records * Self.recordBytes
    return RingPage.Event(nanoseconds: fixed.pointee.nanoseconds, bytes: record, length: records * Self.recordBytes)
  }
}
