/// The requests that a worker holds: waiting for others, ready, or in flight. Fixed memory; one worker owns it.
///
/// With the orders `streams` and `dependencies` a request waits for earlier ones that had completed when it was recorded. All
/// it can wait for are in the table, since requests come in the order of their start; so what is remembered is bounded by the
/// number of slots.
struct InFlightTable: ~Copyable {
  /// A request and its times.
  struct Slot: BitwiseCopyable {
    var request: ReplayRequest
    var number: UInt64
    var ordinal: UInt64
    var due: Int64
    /// CLOCK_MONOTONIC.
    var submitted: Int64
    /// When the last of those that it waited for would have ended, had the replayer lost no time (see `DependencyClock`).
    var ready: Int64
    /// How many requests this one waits for.
    var waitsFor: Int32
    /// Place in the list of active slots.
    var activeIndex: Int32
  }

  private let order: ReplayOrder
  let slots: UnsafeMutablePointer<Slot>
  private let slotCount: Int
  private let free: UnsafeMutablePointer<Int32>
  private(set) var freeCount: Int
  private let active: UnsafeMutablePointer<Int32>
  private(set) var activeCount = 0
  /// For each slot, a bit per slot that waits for it.
  private let dependents: UnsafeMutablePointer<UInt64>
  private let wordsPerSlot: Int
  /// Ready slots, in order: a ring.
  private let ready: UnsafeMutablePointer<Int32>
  private var readyHead = 0
  private(set) var readyCount = 0
  /// The latest held request of each recorded thread, as slot + 1; 0 for none.
  private var latestOfStream: UnsafeMutablePointer<Int32>
  private var streamCapacity = 1024
  /// Of what ended before its followers were held.
  private var ended: DependencyClock

  /// Slots for `iodepth` requests in flight; more where requests wait for each other, so that others pass them.
  static func slots(iodepth: Int, order: ReplayOrder) -> Int {
    order.hasDependencies ? min(2 * EngineOptions.maximumIodepth, max(64, iodepth * 2)) : iodepth
  }

  init(slots count: Int, order: ReplayOrder) {
    self.order = order
    ended = DependencyClock(isEnabled: order.hasDependencies)
    slotCount = count
    slots = .allocate(capacity: count)
    free = .allocate(capacity: count)
    active = .allocate(capacity: count)
    ready = .allocate(capacity: count)
    for i in 0..<count { free[i] = Int32(count - 1 - i) }
    freeCount = count
    wordsPerSlot = order.hasDependencies ? (count + 63) / 64 : 0
    dependents = .allocate(capacity: max(1, wordsPerSlot * count))
    dependents.initialize(repeating: 0, count: max(1, wordsPerSlot * count))
    latestOfStream = .allocate(capacity: streamCapacity)
    latestOfStream.initialize(repeating: 0, count: streamCapacity)
  }

  deinit {
    slots.deallocate()
    free.deallocate()
    active.deallocate()
    ready.deallocate()
    dependents.deallocate()
    latestOfStream.deallocate()
  }

  /// Takes a slot for a request; there must be a free one.
  @inline(__always)
  mutating func hold(_ request: UnsafePointer<ReplayRequest>, number: UInt64, ordinal: UInt64, due: Int64) -> Int32 {
    freeCount -= 1
    let slot = free[freeCount]
    let row = slots + Int(slot)
    row.pointee.request = request.pointee
    row.pointee.number = number
    row.pointee.ordinal = ordinal
    row.pointee.due = due
    row.pointee.waitsFor = 0
    row.pointee.ready = order.hasDependencies ? ended.ready(request) : DependencyClock.never
    if order.hasDependencies { link(slot) }
    return slot
  }

  /// A held request is done: frees its slot; those that waited for nothing else become ready.
  /// - Parameter undelayedEnd: when it would have ended, had the replayer lost no time.
  @inline(__always)
  mutating func release(_ slot: Int32, undelayedEnd: Int64) {
    if order.hasDependencies {
      unlink(slot, undelayedEnd)
      withUnsafePointer(to: &slots[Int(slot)].request) { ended.finish($0, undelayedEnd: undelayedEnd) }
    }
    free[freeCount] = slot
    freeCount += 1
  }

  /// Lets a slot wait until there is room in flight.
  mutating func makeReady(_ slot: Int32) {
    ready[(readyHead + readyCount) % slotCount] = slot
    readyCount += 1
  }

  /// The ready slot that waits longest; there must be one.
  mutating func takeReady() -> Int32 {
    let slot = ready[readyHead]
    readyHead = (readyHead + 1) % slotCount
    readyCount -= 1
    return slot
  }

  // MARK: Dependencies

  @inline(never)
  private mutating func link(_ slot: Int32) {
    let request = slots[Int(slot)].request
    if order == .streams {
      let stream = Int(request.stream)
      if stream >= streamCapacity { growStreams(stream) }
      let latest = latestOfStream[stream]
      if latest > 0, Self.hadCompleted(slots[Int(latest - 1)].request, before: request) { wait(slot, for: latest - 1) }
      latestOfStream[stream] = slot + 1
    } else {
      for i in 0..<activeCount where Self.mustPrecede(slots[Int(active[i])].request, request) { wait(slot, for: active[i]) }
    }
    slots[Int(slot)].activeIndex = Int32(activeCount)
    active[activeCount] = slot
    activeCount += 1
  }

  private mutating func wait(_ slot: Int32, for other: Int32) {
    dependents[Int(other) * wordsPerSlot + Int(slot) >> 6] |= 1 << UInt64(slot & 63)
    slots[Int(slot)].waitsFor += 1
  }

  @inline(never)
  private mutating func unlink(_ slot: Int32, _ undelayedEnd: Int64) {
    activeCount -= 1
    let moved = active[activeCount]
    let place = slots[Int(slot)].activeIndex
    active[Int(place)] = moved
    slots[Int(moved)].activeIndex = place
    if order == .streams {
      let stream = Int(slots[Int(slot)].request.stream)
      if latestOfStream[stream] == slot + 1 { latestOfStream[stream] = 0 }
    }
    let words = dependents + Int(slot) * wordsPerSlot
    for word in 0..<wordsPerSlot {
      while words[word] != 0 {
        let bit = words[word].trailingZeroBitCount
        words[word] &= words[word] - 1
        let waiting = word * 64 + bit
        slots[waiting].waitsFor -= 1
        slots[waiting].ready = max(slots[waiting].ready, undelayedEnd)
        if slots[waiting].waitsFor == 0 { makeReady(Int32(waiting)) }
      }
    }
  }

  /// When recorded, `earlier` had completed before `later` started. Without a recorded latency it is taken to have.
  private static func hadCompleted(_ earlier: ReplayRequest, before later: ReplayRequest) -> Bool {
    earlier.startNanoseconds &+ (earlier.recordedLatencyNanoseconds ?? 0) <= later.startNanoseconds
  }

  /// `later` can depend on `earlier`, and when recorded it started after it had completed.
  static func mustPrecede(_ earlier: ReplayRequest, _ later: ReplayRequest) -> Bool {
    guard hadCompleted(earlier, before: later) else { return false }
    if earlier.stream == later.stream { return true }
    guard earlier.file == later.file else { return false }
    if earlier.kind.isBarrier || later.kind.isBarrier { return true }
    guard earlier.kind.changesData || later.kind.changesData else { return false }
    return earlier.offsetBytes < later.offsetBytes &+ Int64(later.lengthBytes)
      && later.offsetBytes < earlier.offsetBytes &+ Int64(earlier.lengthBytes)
  }

  @inline(never)
  private mutating func growStreams(_ stream: Int) {
    let capacity = max(stream + 1, streamCapacity * 2)
    let larger = UnsafeMutablePointer<Int32>.allocate(capacity: capacity)
    larger.initialize(repeating: 0, count: capacity)
    larger.update(from: latestOfStream, count: streamCapacity)
    latestOfStream.deallocate()
    latestOfStream = larger
    streamCapacity = capacity
  }
}
