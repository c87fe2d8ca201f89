/// Counts requests that are submitted while another one on the same bytes is in flight, where one of the two writes: their order is
/// up to the device. Fixed memory; one worker owns it, and knows its own requests only.
///
/// A table of counters by file and 64 KiB of offset tells for most requests that there can be no other; only then are the ones in
/// flight looked at.
struct OverlapCounter: ~Copyable {
  private struct Entry: BitwiseCopyable {
    var start: Int64
    var end: Int64
    var file: UInt32
    var isWrite: Bool
    var isUsed: Bool
  }

  private static let areaShift: Int64 = 16
  private static let buckets = 4096
  private let isEnabled: Bool
  private let counts: UnsafeMutablePointer<UInt16>
  private let entries: UnsafeMutablePointer<Entry>
  private let slots: Int
  /// Requests in flight that are longer than an area.
  private var wide = 0
  private(set) var overlaps: UInt64 = 0

  /// - Parameter isEnabled: false when nothing is written, or one request is in flight at a time.
  init(slots: Int, isEnabled: Bool) {
    self.isEnabled = isEnabled
    self.slots = isEnabled ? slots : 0
    counts = .allocate(capacity: isEnabled ? Self.buckets : 1)
    counts.initialize(repeating: 0, count: isEnabled ? Self.buckets : 1)
    entries = .allocate(capacity: max(1, self.slots))
    entries.initialize(repeating: Entry(start: 0, end: 0, file: 0, isWrite: false, isUsed: false), count: max(1, self.slots))
  }

  deinit {
    counts.deallocate()
    entries.deallocate()
  }

  /// A request is in flight from now on.
  @inline(__always)
  mutating func begin(_ request: UnsafePointer<ReplayRequest>, slot: Int32) {
    guard isEnabled else { return }
    track(request, slot: Int(slot))
  }

  /// The request of a slot has completed.
  @inline(__always)
  mutating func end(slot: Int32) {
    guard isEnabled, entries[Int(slot)].isUsed else { return }
    forget(Int(slot))
  }

  private mutating func track(_ request: UnsafePointer<ReplayRequest>, slot: Int) {
    let kind = request.pointee.kind
    guard kind == .read || kind == .write, request.pointee.lengthBytes > 0 else { return }
    let entry = Entry(
      start: request.pointee.offsetBytes, end: request.pointee.offsetBytes &+ Int64(request.pointee.lengthBytes),
      file: request.pointee.file, isWrite: kind == .write, isUsed: true)
    let (first, last) = Self.areas(entry)
    let isWide = entry.end &- entry.start > 1 << Self.areaShift
    if wide > 0 || isWide || counts[first] > 0 || counts[last] > 0, overlapsAny(entry) { overlaps &+= 1 }
    entries[slot] = entry
    if isWide {
      wide += 1
    } else {
      counts[first] &+= 1
      if last != first { counts[last] &+= 1 }
    }
  }

  private mutating func forget(_ slot: Int) {
    let entry = entries[slot]
    entries[slot].isUsed = false
    if entry.end &- entry.start > 1 << Self.areaShift {
      wide -= 1
      return
    }
    let (first, last) = Self.areas(entry)
    counts[first] &-= 1
    if last != first { counts[last] &-= 1 }
  }

  /// The buckets of the first and the last byte.
  @inline(__always)
  private static func areas(_ entry: Entry) -> (Int, Int) {
    (bucket(entry.file, entry.start >> areaShift), bucket(entry.file, (entry.end &- 1) >> areaShift))
  }

  @inline(__always)
  private static func bucket(_ file: UInt32, _ area: Int64) -> Int {
    let hash = (UInt64(bitPattern: area) ^ UInt64(file) << 32) &* 0x9E37_79B9_7F4A_7C15
    return Int(hash >> 52)
  }

  private func overlapsAny(_ new: Entry) -> Bool {
    for i in 0..<slots {
      let other = entries[i]
      if other.isUsed, other.file == new.file, other.isWrite || new.isWrite, other.start < new.end, new.start < other.end { return true }
    }
    return false
  }
}
