import CTrace
import Glibc

/// Memory that the programs in the kernel share with the recorder: which threads and calls are recorded, and a ring of records for
/// each CPU. A record that finds no room is counted and dropped; nothing waits.
final class CallRings: @unchecked Sendable {
  /// Where things lie in `memory`, and how large they are.
  struct Layout: Hashable, Sendable {
    let processors: Int
    /// Records of one CPU's ring; a power of two.
    let records: Int

    static let recordBytes = MemoryLayout<trace_call_record>.stride
    static let controlBytes = MemoryLayout<trace_call_ring_control>.stride
    /// System calls have smaller numbers.
    static let callLimit = 1024
    /// Most records that follow one, of what was read from the program's memory.
    static let followingLimit = 256
    /// One byte for each number that a thread can have (PID_MAX_LIMIT of linux/threads.h).
    static let threadLimit = 1 << 22
    /// The verifier knows no larger distance within a value (BPF_MAX_VAR_OFF of linux/bpf_verifier.h).
    private static let mostBytes = 1 << 28

    /// The largest ring of at most `bytesPerProcessor`, and of at least 16 KiB.
    init(processors: Int, bytesPerProcessor: Int) {
      self.processors = processors
      var records = 16_384 / Self.recordBytes
      let most = min(bytesPerProcessor, Self.mostBytes / max(processors, 1))
      while records * 2 * Self.recordBytes <= most { records *= 2 }
      self.records = records
    }

    var ringBytes: Int { records * Self.recordBytes }
    var sharedOffset: Int { processors * Self.controlBytes }
    var callsOffset: Int { sharedOffset + MemoryLayout<trace_call_shared>.stride }
    var ringsOffset: Int { (callsOffset + 4 * Self.callLimit + 4095) & ~4095 }
    /// With room behind the last ring: the verifier knows that records following one are bounded, not that they stay in the ring.
    var totalBytes: Int { ringsOffset + processors * ringBytes + (Self.followingLimit + 1) * Self.recordBytes }
  }
  let layout: Layout
  /// Descriptors of the maps, for the programs.
  let memoryMap: Int32
  let threadsMap: Int32
  private let memory: UnsafeMutableRawPointer
  private let threads: UnsafeMutablePointer<UInt8>

  init(_ layout: Layout) throws(TraceError) {
    self.layout = layout
    (memoryMap, memory) = try Self.share(layout.totalBytes)
    do throws(TraceError) {
      let (map, shared) = try Self.share(Layout.threadLimit)
      (threadsMap, threads) = (map, shared.assumingMemoryBound(to: UInt8.self))
    } catch {
      munmap(memory, layout.totalBytes)
      close(memoryMap)
      throw error
    }
  }

  deinit {
    munmap(memory, layout.totalBytes)
    munmap(threads, Layout.threadLimit)
    close(memoryMap)
    close(threadsMap)
  }

  private static func share(_ bytes: Int) throws(TraceError) -> (map: Int32, memory: UnsafeMutableRawPointer) {
    let map = ctrace_bpf_make_memory(UInt32(bytes))
    guard map >= 0 else {
      throw TraceError(path: "bpf(2)", "share \(ByteCount.text(UInt64(bytes))) with the kernel", errno: -map)
    }
    guard let memory = ctrace_map_file(map, 0, bytes, 1) else {
      let code = errno
      close(map)
      throw TraceError(path: "bpf(2)", "map \(ByteCount.text(UInt64(bytes))) shared with the kernel", errno: code)
    }
    return (map, memory)
  }

  // MARK: What is recorded

  /// Lets a system call's begin and end be recorded, under these types.
  func record(call number: Int, begin: UInt16, end: UInt16) {
    guard number >= 0, number < Layout.callLimit else { return }
    memory.storeBytes(of: UInt32(begin) | UInt32(end) << 16, toByteOffset: layout.callsOffset + 4 * number, as: UInt32.self)
  }

  /// Begins to record threads, and the tasks that they start from now on.
  func follow(_ numbers: some Sequence<Int32>) { for number in numbers { mark(number, 1) } }

  /// Records every thread there is or will be, but these and the tasks that they start.
  func followAll(except own: [Int32]) {
    var first = 0
    for number in own.sorted() where number > 0 && number < Layout.threadLimit {
      memset(threads + first, 1, Int(number) - first)
      first = Int(number) + 1
    }
    memset(threads + first, 1, Layout.threadLimit - first)
  }

  /// Never records threads, nor the tasks that they start from now on.
  func ignore(_ numbers: some Sequence<Int32>) { for number in numbers { mark(number, 0) } }

  private func mark(_ number: Int32, _ value: UInt8) {
    guard number > 0, number < Layout.threadLimit else { return }
    threads[Int(number)] = value
  }

  // MARK: What was recorded

  private func control(_ processor: Int) -> UnsafeMutablePointer<trace_call_ring_control> {
    (memory + processor * Layout.controlBytes).assumingMemoryBound(to: trace_call_ring_control.self)
  }

  private var shared: UnsafeMutablePointer<trace_call_shared> {
    (memory + layout.sharedOffset).assumingMemoryBound(to: trace_call_shared.self)
  }

  /// Takes the records that wait in a CPU's ring, oldest first; none when there are none. What follows a record comes with it. Where
  /// events were lost, a second piece begins, which is marked.
  func take(_ processor: Int) -> [DrainedPages] {
    let control = control(processor)
    let written = withUnsafePointer(to: &control.pointee.written) { ctrace_load_acquire64($0) }
    let lostBefore = withUnsafePointer(to: &control.pointee.lost_before) { ctrace_load_acquire64($0) }
    let taken = control.pointee.taken
    // More than the ring holds would be damage.
    guard written > taken, written - taken <= UInt64(layout.records) else { return [] }
    var pieces: [DrainedPages] = []
    let isSplit = lostBefore > taken && lostBefore - 1 < written
    let split = isSplit ? lostBefore - 1 : taken
    if split > taken { pieces.append(copy(processor, taken, split)) }
    let rest = copy(processor, split, written)
    if isSplit { rest.markLossy() }
    pieces.append(rest)
    withUnsafeMutablePointer(to: &control.pointee.taken) { ctrace_store_release64($0, written) }
    return pieces
  }

  private func copy(_ processor: Int, _ from: UInt64, _ to: UInt64) -> DrainedPages {
    let count = Int(to - from)
    let records = DrainedPages(.callRecords, capacity: count * Layout.recordBytes)
    let first = Int(from & UInt64(layout.records - 1))
    let ring = memory + layout.ringsOffset + processor * layout.ringBytes
    let beforeEnd = min(count, layout.records - first)
    records.append(ring + first * Layout.recordBytes, count: beforeEnd * Layout.recordBytes)
    records.append(ring, count: (count - beforeEnd) * Layout.recordBytes)
    return records
  }

  /// Calls of 32-bit programs that were left out, as far as they were noticed.
  var skipped32BitCalls: UInt64 { withUnsafePointer(to: &shared.pointee.calls_32_bit) { ctrace_load_acquire64($0) } }

  /// Forgets what was recorded and lost. No thread may be recorded meanwhile.
  func clear() {
    for processor in 0..<layout.processors {
      let control = control(processor)
      control.pointee.lost = 0
      control.pointee.lost_before = 0
      control.pointee.taken = withUnsafePointer(to: &control.pointee.written) { ctrace_load_acquire64($0) }
    }
  }

  /// Records that a CPU stored, that wait to be taken, and that found no room.
  func statistics(_ processor: Int) -> CPUStatistics {
    let control = control(processor)
    var statistics = CPUStatistics()
    statistics.lostEvents = withUnsafePointer(to: &control.pointee.lost) { ctrace_load_acquire64($0) }
    // What nobody's ring could take is the first one's loss.
    if processor == 0 { statistics.lostEvents += withUnsafePointer(to: &shared.pointee.lost_elsewhere) { ctrace_load_acquire64($0) } }
    statistics.readEvents = control.pointee.taken
    statistics.entries = withUnsafePointer(to: &control.pointee.written) { ctrace_load_acquire64($0) } &- control.pointee.taken
    return statistics
  }
}
