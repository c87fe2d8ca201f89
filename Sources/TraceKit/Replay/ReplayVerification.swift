import CTrace
import Glibc

/// `--verify`: knows what every block should hold that a replay writes or fills, compares what its reads bring, and in the end what
/// is on the targets.
///
/// Blocks have 512 bytes. A write that is alone on a block decides what it holds; where two are in flight at once, or one fails
/// half way, nobody knows, and the block counts as ambiguous until it is written again. A read is compared unless a write of the
/// block, or a truncation or discard of the file, was under way at any moment of it.
final class ReplayVerification: @unchecked Sendable {
  /// What is known of a target as a whole. Words that threads share are changed atomically.
  private struct Target {
    /// It existed before: what it held is not known.
    var isForeign: Bool
    /// Bytes that it had before the run, and the parts of them that were filled.
    var sizeBytes: Int64
    var filled: TraceSurvey.Areas
    var fillStart: Int64
    /// When a truncation or discard last began or ended, and how many are under way.
    var barrierTick: UInt64 = 0
    var barriers: UInt64 = 0
    /// When a write last began or ended.
    var writeTick: UInt64 = 0
    /// Untouched blocks from here on hold zeros (twice the block's number), or are not known (and 1): what truncation leaves.
    var tail = UInt64.max
    /// Untouched blocks in this range are not known: what large discards leave.
    var hazyFrom = UInt64.max
    var hazyTo: UInt64 = 0
  }

  /// What comparing bytes with what they should be gives.
  private enum Comparison { case same, different, notKnown }

  private static let block = StampedBlock.bytes
  private static let lockCount = 256
  private static let largestExplicitDiscardBytes: Int64 = 1 << 30

  let stamps: StampedBlock
  private let table: BlockTable
  private let targets: UnsafeMutablePointer<Target>
  private let targetCount: Int
  private let clock: UnsafeMutablePointer<UInt64>
  private let locks: UnsafeMutablePointer<pthread_mutex_t>

  /// - Parameters:
  ///   - targets: by recorded file, opened and filled.
  ///   - folder: where what memory does not hold goes.
  init(stamps: StampedBlock, targets opened: [ReplayTarget], survey: TraceSurvey, folder: String) throws(TraceError) {
    self.stamps = stamps
    targetCount = opened.count
    targets = .allocate(capacity: max(1, opened.count))
    var blockCounts = Array(repeating: 0, count: opened.count)
    var written: [(target: Int, blocks: Range<Int>)] = []
    for (id, target) in opened.enumerated() {
      let file = survey.files[id]
      (targets + id).initialize(
        to: Target(
          isForeign: !target.isNew, sizeBytes: Int64(target.sizeBytes), filled: file.readAreas,
          fillStart: target.placement.offsetBytes))
      guard file.requests > 0 else { continue }
      let reach = target.placement.reach(Int64(max(file.readEnd, file.writeEnd)))
      blockCounts[target.primary] = max(blockCounts[target.primary], Int((reach + 511) / 512) + 1)
      guard file.bytesToWrite > 0 else { continue }
      if target.placement.keepsDistances {
        for area in file.writeAreas.offsets {
          let start = Int(target.placement.offsetBytes) + Int(area)
          written.append((target.primary, start / 512..<(start + Int(file.writeAreas.chunkBytes)) / 512 + 1))
        }
      } else {
        written.append((target.primary, Int(target.placement.offsetBytes) / 512..<Int(reach / 512) + 1))
      }
    }
    clock = .allocate(capacity: 1)
    clock.initialize(to: 0)
    locks = .allocate(capacity: Self.lockCount)
    for i in 0..<Self.lockCount { pthread_mutex_init(locks + i, nil) }
    table = try BlockTable(blockCounts: blockCounts, written: written, folder: folder)
  }

  deinit {
    for i in 0..<Self.lockCount { pthread_mutex_destroy(locks + i) }
    locks.deallocate()
    clock.deallocate()
    targets.deinitialize(count: targetCount)
    targets.deallocate()
  }

  private func nextTick() -> UInt64 { ctrace_fetch_add64(clock, 1) + 1 }

  /// A word of a target that threads share; `field` is its place in `Target`.
  private func word(_ target: Int, _ field: Int?) -> UnsafeMutablePointer<UInt64> {
    UnsafeMutableRawPointer(targets + target).advanced(by: field!).assumingMemoryBound(to: UInt64.self)
  }
  private func barrierTick(_ target: Int) -> UnsafeMutablePointer<UInt64> { word(target, MemoryLayout<Target>.offset(of: \.barrierTick)) }
  private func barriers(_ target: Int) -> UnsafeMutablePointer<UInt64> { word(target, MemoryLayout<Target>.offset(of: \.barriers)) }
  private func writeTick(_ target: Int) -> UnsafeMutablePointer<UInt64> { word(target, MemoryLayout<Target>.offset(of: \.writeTick)) }

  /// A write of the target begins or ends.
  private func noteWrite(_ target: Int, _ tick: UInt64) {
    let lock = locks + (target & (Self.lockCount - 1))
    pthread_mutex_lock(lock)
    if tick > ctrace_load_relaxed64(writeTick(target)) { ctrace_store_release64(writeTick(target), tick) }
    pthread_mutex_unlock(lock)
  }

  /// Whether no write of the target began or ended since `start`, and nothing else that changes it as a whole is under way.
  private func isAlone(_ target: Int, since start: UInt64) -> Bool {
    ctrace_load_acquire64(barriers(target)) == 1 && ctrace_load_acquire64(writeTick(target)) < start
  }

  /// Calls `body` for each block that a range touches, under the lock of its part of the table, with the bytes of it that are
  /// touched. Blocks beyond the table are left out.
  @inline(__always)
  private func eachBlock(
    _ target: Int, _ offset: Int64, _ length: Int, _ body: (UnsafeMutablePointer<BlockTable.Row>, Int, Range<Int>) -> Void
  ) {
    let end = Int(offset) + length
    var position = Int(offset)
    let limit = table.blockCount(target)
    while position < end {
      let lock = locks + ((target &* 31 &+ position >> 20) & (Self.lockCount - 1))
      pthread_mutex_lock(lock)
      let segmentEnd = min(end, (position >> 20 + 1) << 20)
      while position < segmentEnd {
        let block = position / Self.block
        let inside = position % Self.block
        let count = min(Self.block - inside, segmentEnd - position)
        if block < limit { body(table.row(target, block), block, inside..<inside + count) }
        position += count
      }
      pthread_mutex_unlock(lock)
    }
  }

  // MARK: Requests

  /// A request begins: a write's data are made, and its blocks marked. Returns what `end` is to be given.
  func begin(_ operation: IOOperation, target: Int, request: UInt64) -> UInt64 {
    let tick = nextTick()
    switch operation.kind {
    case .write:
      if let buffer = operation.buffer {
        stamps.fill(buffer, target: target, offset: operation.offsetBytes, length: operation.lengthBytes, request: request)
      }
      noteWrite(target, tick)
      eachBlock(target, operation.offsetBytes, operation.lengthBytes) { row, _, _ in
        if row.pointee.writers == 0 { row.pointee.isContested = false } else { row.pointee.isContested = true }
        row.pointee.writers &+= 1
        row.pointee.tick = tick
      }
    case .truncate, .discard:
      _ = ctrace_fetch_add64(barriers(target), 1)
      ctrace_store_release64(barrierTick(target), tick)
    default: break
    }
    return tick
  }

  /// A request has ended.
  /// - Parameter start: what `begin` returned.
  func end(
    _ operation: IOOperation, target: Int, request: UInt64, start: UInt64, result: Int64, into found: inout VerificationResult
  ) {
    switch operation.kind {
    case .read: if result > 0 { check(operation, target, start, Int(result), &found) }
    case .write: endWrite(operation, target, request, start, Int(max(0, result)))
    case .truncate, .discard: endBarrier(operation, target, start, succeeded: result >= 0)
    default: break
    }
  }

  private func check(_ operation: IOOperation, _ target: Int, _ start: UInt64, _ moved: Int, _ found: inout VerificationResult) {
    guard let buffer = operation.buffer else { return }
    let isDisturbed = ctrace_load_acquire64(barriers(target)) > 0 || ctrace_load_acquire64(barrierTick(target)) > start
    let offset = operation.offsetBytes
    eachBlock(target, offset, moved) { row, block, range in
      guard !isDisturbed, row.pointee.writers == 0, row.pointee.tick <= start else {
        found.readBlocksNotChecked += 1
        return
      }
      let bytes = UnsafeRawPointer(buffer) + (block * Self.block + range.lowerBound - Int(offset))
      switch compare(row.pointee, target, block, bytes, range) {
      case .same: found.readBlocksChecked += 1
      case .notKnown: found.readBlocksNotChecked += 1
      case .different:
        found.readBlocksChecked += 1
        found.readBlocksCorrupt += 1
        found.note(finding(row.pointee, target, block, bytes, range, duringRun: true))
      }
    }
  }

  private func endWrite(_ operation: IOOperation, _ target: Int, _ request: UInt64, _ start: UInt64, _ moved: Int) {
    let tick = nextTick()
    noteWrite(target, tick)
    let isDisturbed = ctrace_load_acquire64(barriers(target)) > 0 || ctrace_load_acquire64(barrierTick(target)) > start
    let movedEnd = Int(operation.offsetBytes) + moved
    eachBlock(target, operation.offsetBytes, operation.lengthBytes) { row, block, range in
      row.pointee.tick = tick
      if row.pointee.writers > 0 { row.pointee.writers -= 1 }
      let written = range.lowerBound..<max(range.lowerBound, min(range.upperBound, movedEnd - block * Self.block))
      if row.pointee.isContested || row.pointee.writers > 0 || isDisturbed {
        row.pointee.state = .unknown
      } else if written.count == Self.block {
        row.pointee.request = request
        row.pointee.state = .stamped
      } else {
        mix(row, target, block, written) { self.stamps.fill($0, target: target, block: UInt64(block), request: request) }
        if written.count < range.count { mix(row, target, block, written.upperBound..<range.upperBound, nil) }
      }
    }
  }

  /// Makes bytes of a block what `fill` gives for the whole block; not known without it.
  private func mix(
    _ row: UnsafeMutablePointer<BlockTable.Row>, _ target: Int, _ block: Int, _ range: Range<Int>,
    _ fill: ((UnsafeMutableRawPointer) -> Void)?
  ) {
    if range.isEmpty { return }
    guard let piece = table.piece(row) else {
      row.pointee.state = .unknown
      return
    }
    let mask = piece + Self.block
    if row.pointee.state != .mixed {
      let isKnown = expected(row.pointee, target, block, piece)
      memset(mask, isKnown ? 0xFF : 0, Self.block / 8)
      row.pointee.state = .mixed
    }
    withUnsafeTemporaryAllocation(byteCount: Self.block, alignment: 8) { scratch in
      if let fill {
        fill(scratch.baseAddress!)
        memcpy(piece + range.lowerBound, scratch.baseAddress! + range.lowerBound, range.count)
      }
      for byte in range {
        let bit: UInt8 = 1 << UInt8(byte & 7)
        let old = mask.load(fromByteOffset: byte >> 3, as: UInt8.self)
        mask.storeBytes(of: fill == nil ? old & ~bit : old | bit, toByteOffset: byte >> 3, as: UInt8.self)
      }
    }
  }

  // MARK: Truncation and discard

  private func endBarrier(_ operation: IOOperation, _ target: Int, _ start: UInt64, succeeded: Bool) {
    let tick = nextTick()
    if succeeded {
      if operation.kind == .truncate {
        cut(target, operation.offsetBytes, start)
      } else {
        clear(target, operation.offsetBytes, operation.lengthBytes, start, isKnown: !operation.isBlockDevice)
      }
    }
    ctrace_store_release64(barrierTick(target), tick)
    _ = ctrace_fetch_add64(barriers(target), UInt64.max)
  }

  /// The file ends at `offset`; what is written behind it later lies among zeros.
  private func cut(_ target: Int, _ offset: Int64, _ start: UInt64) {
    let inside = Int(offset) % Self.block
    if inside > 0 { setZero(target, offset, Self.block - inside, start, isKnown: true) }
    let first = (Int(offset) + Self.block - 1) / Self.block
    table.forget(target, from: first)
    let old = targets[target].tail
    // Whether a write came before or after it is not known when both were under way; asked after the rows are gone, so that none
    // is forgotten that ended meanwhile.
    let isCertain = isAlone(target, since: start) && (UInt64(first) <= old >> 1 || old & 1 == 0)
    targets[target].tail = min(old >> 1, UInt64(first)) << 1 | (isCertain ? 0 : 1)
  }

  private func clear(_ target: Int, _ offset: Int64, _ length: Int, _ start: UInt64, isKnown: Bool) {
    let end = min(Int(offset) &+ length, table.blockCount(target) * Self.block)
    guard end > Int(offset) else { return }
    if Int64(end) - offset <= Self.largestExplicitDiscardBytes {
      return setZero(target, offset, end - Int(offset), start, isKnown: isKnown)
    }
    // Rows of what nobody touched would fill the table: the range is not known as a whole.
    let (first, last) = (Int(offset) / Self.block, (end + Self.block - 1) / Self.block)
    targets[target].hazyFrom = min(targets[target].hazyFrom, UInt64(first))
    targets[target].hazyTo = max(targets[target].hazyTo, UInt64(last))
    var next = first
    while let block = table.nextTouched(target, from: next), block < last {
      let stop = min(last, block + 1024)
      for i in block..<stop where table.row(target, i).pointee.state != .untouched { table.row(target, i).pointee.state = .unknown }
      next = stop
    }
  }

  private func setZero(_ target: Int, _ offset: Int64, _ length: Int, _ start: UInt64, isKnown: Bool) {
    let isOnly = ctrace_load_acquire64(barriers(target)) == 1
    eachBlock(target, offset, length) { row, block, range in
      // A write of the block was under way as well: nobody knows which came first.
      if !isKnown || !isOnly || row.pointee.tick > start || row.pointee.writers > 0 {
        row.pointee.state = .unknown
      } else if range.count == Self.block {
        row.pointee.state = .zero
      } else {
        mix(row, target, block, range) { memset($0, 0, Self.block) }
      }
    }
  }

  // MARK: Comparing

  /// Fills `memory` with what a block should hold; false when that is not known. Not for mixed blocks.
  private func expected(_ row: BlockTable.Row, _ target: Int, _ block: Int, _ memory: UnsafeMutableRawPointer) -> Bool {
    switch row.state {
    case .stamped: stamps.fill(memory, target: target, block: UInt64(block), request: row.request)
    case .zero: memset(memory, 0, Self.block)
    case .unknown, .mixed: return false
    case .untouched: return initial(target, block, memory)
    }
    return true
  }

  /// What a block held that nobody has written to.
  private func initial(_ target: Int, _ block: Int, _ memory: UnsafeMutableRawPointer) -> Bool {
    let known = targets + target
    let tail = known.pointee.tail
    if UInt64(block) >= tail >> 1 {
      memset(memory, 0, Self.block)
      return tail & 1 == 0
    }
    let isHazy = UInt64(block) >= known.pointee.hazyFrom && UInt64(block) < known.pointee.hazyTo
    if known.pointee.isForeign || isHazy || known.pointee.fillStart % Int64(Self.block) != 0 { return false }
    let start = Int64(block * Self.block)
    let place = start - known.pointee.fillStart
    let isFilled = place >= 0 && start < known.pointee.sizeBytes && known.pointee.filled.contains(UInt64(place))
    if isFilled {
      stamps.fill(memory, target: target, block: UInt64(block), request: StampedBlock.filling)
      let count = Int(min(Int64(Self.block), known.pointee.sizeBytes - start))
      memset(memory + count, 0, Self.block - count)
    } else {
      memset(memory, 0, Self.block)
    }
    return true
  }

  /// - Parameter bytes: those of `range` of the block.
  private func compare(
    _ row: BlockTable.Row, _ target: Int, _ block: Int, _ bytes: UnsafeRawPointer, _ range: Range<Int>
  ) -> Comparison {
    if row.state == .mixed {
      var copy = row
      guard let piece = withUnsafeMutablePointer(to: &copy, { table.piece($0) }) else { return .notKnown }
      return compare(piece, bytes, range)
    }
    return withUnsafeTemporaryAllocation(byteCount: Self.block, alignment: 8) { scratch in
      guard expected(row, target, block, scratch.baseAddress!) else { return .notKnown }
      return memcmp(scratch.baseAddress! + range.lowerBound, bytes, range.count) == 0 ? .same : .different
    }
  }

  private func compare(_ piece: UnsafeMutableRawPointer, _ bytes: UnsafeRawPointer, _ range: Range<Int>) -> Comparison {
    var known = 0
    for byte in range where piece.load(fromByteOffset: Self.block + byte >> 3, as: UInt8.self) >> UInt8(byte & 7) & 1 != 0 {
      known += 1
      let found = bytes.load(fromByteOffset: byte - range.lowerBound, as: UInt8.self)
      if found != piece.load(fromByteOffset: byte, as: UInt8.self) { return .different }
    }
    return known > 0 ? .same : .notKnown
  }

  private func finding(
    _ row: BlockTable.Row, _ target: Int, _ block: Int, _ bytes: UnsafeRawPointer, _ range: Range<Int>, duringRun: Bool
  ) -> VerificationResult.Finding {
    let isWhole = range.count == Self.block
    return VerificationResult.Finding(
      target: target, offsetBytes: Int64(block * Self.block + range.lowerBound), duringRun: duringRun,
      expected: row.state == .stamped
        ? row.request : row.state == .untouched ? StampedBlock.filling : nil,
      found: isWhole ? stamps.request(of: bytes, target: target, block: UInt64(block)) : nil,
      isZero: (0..<range.count).allSatisfy { bytes.load(fromByteOffset: $0, as: UInt8.self) == 0 })
  }

  // MARK: After the run

  /// Compares every block that was written with what is on its target, read from the device where the page cache can be evicted.
  /// - Parameter progress: called now and then with the bytes read.
  func checkTargets(_ opened: [ReplayTarget], into found: inout VerificationResult, progress: (UInt64) -> Void) throws(TraceError) {
    let blocks = 2048
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: blocks * Self.block, alignment: 4096)
    defer { memory.deallocate() }
    var done: UInt64 = 0
    for (id, target) in opened.enumerated() where target.descriptor >= 0 && target.primary == id {
      _ = ctrace_drop_cached_pages(target.descriptor)
      var next = 0
      while let first = table.nextTouched(id, from: next) {
        let last = min(table.blockCount(id), first + blocks)
        next = last
        let touched = (first..<last).filter { table.row(id, $0).pointee.state != .untouched }
        guard let lowest = touched.first, let highest = touched.last else { continue }
        let bytes = (highest - lowest + 1) * Self.block
        let read = try Self.read(target, memory, bytes, at: lowest * Self.block)
        memset(memory.baseAddress! + read, 0, bytes - read)
        for block in touched { check(id, block, memory.baseAddress! + (block - lowest) * Self.block, &found) }
        done += UInt64(bytes)
        progress(done)
      }
    }
  }

  private func check(_ target: Int, _ block: Int, _ bytes: UnsafeRawPointer, _ found: inout VerificationResult) {
    let row = table.row(target, block).pointee
    switch compare(row, target, block, bytes, 0..<Self.block) {
    case .same: found.blocksChecked += 1
    case .notKnown: found.blocksAmbiguous += 1
    case .different:
      found.blocksChecked += 1
      found.blocksCorrupt += 1
      found.note(finding(row, target, block, bytes, 0..<Self.block, duringRun: false))
    }
  }

  private static func read(
    _ target: ReplayTarget, _ memory: UnsafeMutableRawBufferPointer, _ bytes: Int, at offset: Int
  ) throws(TraceError) -> Int {
    var done = 0
    while done < bytes {
      let count = pread(target.descriptor, memory.baseAddress! + done, bytes - done, offset + done)
      if count < 0, errno == EINTR { continue }
      if count < 0 {
        throw TraceError(path: target.path, "read it at offset \(offset + done) to verify it", errno: errno)
      }
      if count == 0 { break }
      done += count
    }
    return done
  }
}
