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
    left -= 1
    position += Self.recordBytes
    let time = record.assumingMemoryBound(to: trace_call_record.self).pointee.nanoseconds
    return RingPage.Event(nanoseconds: time, bytes: record, length: Self.recordBytes)
  }
}
