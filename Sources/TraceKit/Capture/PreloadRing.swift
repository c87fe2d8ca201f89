import CTrace
import Glibc

/// One thread's ring as the collector sees it. Only the collector's thread uses it.
final class PreloadRing {
  let path: String
  let processID: Int32
  let recordCount: Int
  private let base: UnsafeMutableRawPointer
  private let bytes: Int
  private let slots: UnsafeMutableRawPointer
  private(set) var tail: UInt64 = 0
  private var droppedSeen: UInt64 = 0
  /// `head` when this round began.
  private(set) var snapshotHead: UInt64 = 0

  private static let slotBytes = MemoryLayout<trace_record>.stride
  private static let headOffset = MemoryLayout<trace_ring>.offset(of: \trace_ring.head)!
  private static let inFlightOffset = MemoryLayout<trace_ring>.offset(of: \trace_ring.in_flight_ns)!
  private static let droppedOffset = MemoryLayout<trace_ring>.offset(of: \trace_ring.dropped)!
  private static let dropFirstOffset = MemoryLayout<trace_ring>.offset(of: \trace_ring.drop_first_ns)!
  private static let dropLastOffset = MemoryLayout<trace_ring>.offset(of: \trace_ring.drop_last_ns)!
  private static let tailOffset = MemoryLayout<trace_ring>.offset(of: \trace_ring.tail)!
  private static let droppedSeenOffset = MemoryLayout<trace_ring>.offset(of: \trace_ring.dropped_seen)!
  private static let operationOffset = MemoryLayout<trace_record>.offset(of: \trace_record.operation)!
  private static let sizeOffset = MemoryLayout<trace_record>.offset(of: \trace_record.size)!

  /// Maps the ring file at `path`; nil while its owner has not finished making it.
  init?(path: String) {
    let descriptor = ctrace_open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var status = stat()
    let header = Int(TRACE_RING_HEADER_BYTES)
    guard fstat(descriptor, &status) == 0, status.st_size >= header + Self.slotBytes,
      let mapped = mmap(nil, Int(status.st_size), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), mapped != MAP_FAILED
    else { return nil }
    let ring = mapped.assumingMemoryBound(to: trace_ring.self)
    let magic = ctrace_load_acquire64(mapped.assumingMemoryBound(to: UInt64.self))
    let count = Int(ring.pointee.record_count)
    guard magic == TRACE_RING_MAGIC, ring.pointee.version == TRACE_RING_VERSION, count > 0, count & (count - 1) == 0,
      header + count * Self.slotBytes <= Int(status.st_size)
    else {
      munmap(mapped, Int(status.st_size))
      return nil
    }
    self.path = path
    base = mapped
    bytes = Int(status.st_size)
    slots = mapped + header
    recordCount = count
    processID = ring.pointee.process_id
  }

  deinit { munmap(base, bytes) }

  private func word(_ offset: Int) -> UnsafeMutablePointer<UInt64> { (base + offset).assumingMemoryBound(to: UInt64.self) }

  /// The owner's process number can be looked up here: it is not of another PID namespace.
  var processIsVisible: Bool { base.assumingMemoryBound(to: trace_ring.self).pointee.foreign_processes == 0 }

  /// Start of the call in flight (CLOCK_MONOTONIC), 1 when one is about to start, 0 when there is none. Read before the head.
  var inFlight: UInt64 { ctrace_load_acquire64(word(Self.inFlightOffset)) }

  func takeSnapshot() { snapshotHead = ctrace_load_acquire64(word(Self.headOffset)) }

  var pendingSlots: Int { Int(min(snapshotHead &- tail, UInt64(recordCount))) }

  /// Copies the finished records up to the snapshot to `target`, which has room for them; returns the number of slots.
  func copyFinished(to target: UnsafeMutableRawPointer) -> Int {
    let limit = tail &+ UInt64(pendingSlots)
    let mask = UInt64(recordCount - 1)
    var position = tail
    while position < limit {
      let slot = slots + Int(position & mask) * Self.slotBytes
      let sequence = ctrace_load_acquire32(slot.assumingMemoryBound(to: UInt32.self))
      guard sequence == UInt32(truncatingIfNeeded: position &+ 1) else { break }
      guard slot.load(fromByteOffset: Self.operationOffset, as: UInt8.self) == UInt8(TRACE_OP_DEFINITION.rawValue) else {
        position &+= 1
        continue
      }
      let payload = slot.load(fromByteOffset: Self.sizeOffset, as: UInt64.self)
      let following = (min(payload, 1 << 20) + UInt64(Self.slotBytes) - 1) / UInt64(Self.slotBytes)
      guard position + 1 + following <= limit else { break }
      position &+= 1 + following
    }
    let count = Int(position &- tail)
    let first = Int(tail & mask)
    let untilEnd = min(count, recordCount - first)
    memcpy(target, slots + first * Self.slotBytes, untilEnd * Self.slotBytes)
    memcpy(target + untilEnd * Self.slotBytes, slots, (count - untilEnd) * Self.slotBytes)
    clearDefinitions(in: target, count: count)
    advance(by: count)
    return count
  }

  /// What a definition's slots held must not be taken for a finished record one lap later.
  private func clearDefinitions(in copy: UnsafeMutableRawPointer, count: Int) {
    let mask = UInt64(recordCount - 1)
    var i = 0
    while i < count {
      let slot = copy + i * Self.slotBytes
      guard slot.load(fromByteOffset: Self.operationOffset, as: UInt8.self) == UInt8(TRACE_OP_DEFINITION.rawValue) else {
        i += 1
        continue
      }
      let following = (Int(slot.load(fromByteOffset: Self.sizeOffset, as: UInt64.self)) + Self.slotBytes - 1) / Self.slotBytes
      for next in 1...max(1, following) {
        let number = (tail &+ UInt64(i + next)) & mask
        (slots + Int(number) * Self.slotBytes).assumingMemoryBound(to: UInt32.self).pointee = 0
      }
      i += 1 + following
    }
  }

  private func advance(by count: Int) {
    guard count > 0 else { return }
    tail &+= UInt64(count)
    ctrace_store_release64(word(Self.tailOffset), tail)
  }

  /// Passes over a slot that its dead owner reserved and never finished.
  func skipLost() { advance(by: 1) }

  /// Events dropped since the last call, with the interval (CLOCK_MONOTONIC); nil when there are none.
  func takeDrops() -> (count: UInt64, firstNanoseconds: UInt64, lastNanoseconds: UInt64)? {
    let dropped = ctrace_load_acquire64(word(Self.droppedOffset))
    guard dropped != droppedSeen else { return nil }
    let count = dropped &- droppedSeen
    let (first, last) = (word(Self.dropFirstOffset).pointee, word(Self.dropLastOffset).pointee)
    droppedSeen = dropped
    ctrace_store_release64(word(Self.droppedSeenOffset), dropped)
    return (count, min(first, last), max(first, last))
  }

  var threadID: Int32 { base.assumingMemoryBound(to: trace_ring.self).pointee.thread_id }
}
