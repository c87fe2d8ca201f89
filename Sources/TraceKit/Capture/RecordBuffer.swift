import CTrace
import Glibc

/// Collects finished requests and definitions of files until they are handed over as a round. One thread's.
struct RecordBuffer: ~Copyable {
  private var slots: UnsafeMutablePointer<trace_record>
  private var capacity = 4096
  private var count = 0
  private var segments: [CaptureRound.Segment] = []
  private var gaps: [TraceEvent] = []
  /// Requests so far, definitions and gaps not counted.
  private(set) var records: UInt64 = 0

  init() { slots = .allocate(capacity: capacity) }

  deinit { slots.deallocate() }

  var isEmpty: Bool { count == 0 && gaps.isEmpty }
  var slotCount: Int { count }

  @inline(__always)
  mutating func append(_ record: trace_record, process: Int32) {
    reserve(1, process)
    slots[count - 1] = record
    records &+= 1
  }

  mutating func append(gap: TraceEvent) { gaps.append(gap) }

  /// Says what `number` stands for.
  mutating func define(_ number: UInt32, _ facts: DescriptorFacts) {
    var fixed = trace_definition()
    fixed.description = number
    fixed.path_bytes = UInt32(facts.path.count)
    fixed.device = facts.device
    fixed.represented_device = facts.representedDevice
    fixed.inode = facts.inode
    fixed.birth_ns = facts.birthNanoseconds
    fixed.size = facts.sizeBytes ?? UInt64.max
    fixed.open_flags = facts.openFlags ?? UInt32.max
    fixed.kind = UInt32(facts.kind.rawValue)
    fixed.filesystem_type = facts.filesystemType
    let fixedBytes = MemoryLayout<trace_definition>.size
    let slotBytes = MemoryLayout<trace_record>.stride
    let payload = fixedBytes + facts.path.count
    let following = (payload + slotBytes - 1) / slotBytes
    reserve(1 + following, segments.last?.processID ?? 0)
    let start = slots + (count - 1 - following)
    var record = trace_record()
    record.operation = UInt8(TRACE_OP_DEFINITION.rawValue)
    record.size = UInt64(payload)
    start.pointee = record
    let target = UnsafeMutableRawPointer(start + 1)
    target.storeBytes(of: fixed, as: trace_definition.self)
    facts.path.withUnsafeBytes { (target + fixedBytes).copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(target), byteCount: $0.count) }
  }

  @inline(__always)
  private mutating func reserve(_ more: Int, _ process: Int32) {
    if count + more > capacity { grow(count + more) }
    count += more
    if let last = segments.indices.last, segments[last].processID == process {
      segments[last].slotCount += more
    } else {
      segments.append(.init(processID: process, slotCount: more))
    }
  }

  private mutating func grow(_ needed: Int) {
    let larger = max(capacity * 2, needed)
    let memory = UnsafeMutablePointer<trace_record>.allocate(capacity: larger)
    memory.update(from: slots, count: count)
    slots.deallocate()
    slots = memory
    capacity = larger
  }

  /// Hands over what was collected.
  mutating func takeRound(watermark: Int64, isLast: Bool) -> CaptureRound {
    var round = CaptureRound(slotCapacity: count)
    memcpy(round.slots, slots, count * MemoryLayout<trace_record>.stride)
    round.slotCount = count
    round.segments = segments
    round.gaps = gaps
    round.watermark = watermark
    round.isLast = isLast
    count = 0
    segments.removeAll(keepingCapacity: true)
    gaps.removeAll(keepingCapacity: true)
    return round
  }
}
