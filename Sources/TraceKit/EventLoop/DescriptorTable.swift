/// The descriptors that an event loop watches: a row each, used again after it was freed.
struct DescriptorTable: ~Copyable {
  struct Row: BitwiseCopyable {
    var descriptor: Int32 = -1
    /// Goes up when the row is freed: registrations of before are of no effect.
    var generation: UInt32 = 0
    /// Goes up when the row is freed and when what it waits for is replaced: what the kernel still reports about before is told
    /// apart. 30 bits, as much as fits into a request's user data beside the row's number.
    var pollGeneration: UInt32 = 0
    var token: UInt64 = 0
    /// What it waits for; empty when it is not armed.
    var interest: EventLoop.Interest = []
    /// Its readiness comes from epoll, not from the ring.
    var usesEpoll = false
    /// Epoll knows the descriptor.
    var isInEpoll = false
    /// A request that polls it is on the ring.
    var isOnRing = false
    /// It has an event that the loop itself owes, with these bits.
    var owed: UInt32 = 0
    var isUsed = false
  }

  private(set) var rows: UnsafeMutablePointer<Row>
  private(set) var count = 0
  private var capacity = 16
  private var free: [Int] = []
  /// For each descriptor the row that watches it, plus 1; 0 for none.
  private var rowOfDescriptor: [Int32] = []
  private static let pollGenerationMask: UInt32 = 0x3FFF_FFFF

  init() {
    rows = .allocate(capacity: capacity)
  }

  deinit { rows.deallocate() }

  mutating func add(_ descriptor: Int32, token: UInt64) -> Int {
    let index = free.popLast() ?? grow()
    let number = Int(descriptor)
    if number >= rowOfDescriptor.count {
      rowOfDescriptor += repeatElement(0, count: max(number + 1, rowOfDescriptor.count * 2) - rowOfDescriptor.count)
    }
    rowOfDescriptor[number] = Int32(index + 1)
    rows[index].descriptor = descriptor
    rows[index].token = token
    rows[index].isUsed = true
    return index
  }

  private mutating func grow() -> Int {
    if count == capacity {
      let larger = UnsafeMutablePointer<Row>.allocate(capacity: capacity * 2)
      larger.moveInitialize(from: rows, count: count)
      rows.deallocate()
      rows = larger
      capacity *= 2
    }
    (rows + count).initialize(to: Row())
    count += 1
    return count - 1
  }

  mutating func remove(_ index: Int) {
    let number = Int(rows[index].descriptor)
    if rowOfDescriptor[number] == Int32(index + 1) { rowOfDescriptor[number] = 0 }
    let old = rows[index]
    rows[index] = Row()
    rows[index].generation = old.generation &+ 1
    rows[index].pollGeneration = old.pollGeneration
    outdatePolls(index)
    free.append(index)
  }

  /// What was polled for a row so far is of no interest any more.
  mutating func outdatePolls(_ index: Int) {
    rows[index].pollGeneration = (rows[index].pollGeneration &+ 1) & Self.pollGenerationMask
  }

  /// Number and poll generation of a row in one value, for the kernel to give back.
  func key(_ index: Int) -> UInt64 { UInt64(rows[index].pollGeneration) << 32 | UInt64(UInt32(index)) }

  /// The row that a key stands for; nil when that poll is of no interest any more.
  @inline(__always)
  func index(ofKey key: UInt64) -> Int? {
    let index = Int(UInt32(truncatingIfNeeded: key))
    guard index < count, rows[index].isUsed, UInt64(rows[index].pollGeneration) == key >> 32 & UInt64(Self.pollGenerationMask) else {
      return nil
    }
    return index
  }

  /// The row that watches a descriptor, or nil.
  func index(of descriptor: Int32) -> Int? {
    guard Int(descriptor) < rowOfDescriptor.count, rowOfDescriptor[Int(descriptor)] > 0 else { return nil }
    return Int(rowOfDescriptor[Int(descriptor)]) - 1
  }

  @inline(__always)
  func isCurrent(_ index: Int, _ generation: UInt32) -> Bool {
    index < count && rows[index].isUsed && rows[index].generation == generation
  }
}
