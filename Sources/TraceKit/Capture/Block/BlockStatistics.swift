/// Finished requests of a device as /sys/block/NAME/stat counts them (Documentation/block/stat.rst of the kernel).
public struct BlockStatistics: Hashable, Sendable {
  public var reads: UInt64 = 0
  public var readBytes: UInt64 = 0
  /// Writes; zeroing without data is among them.
  public var writes: UInt64 = 0
  public var writtenBytes: UInt64 = 0
  public var discards: UInt64 = 0
  public var discardedBytes: UInt64 = 0
  public var flushes: UInt64 = 0

  public init() {}

  /// Reads the line of a `stat` file: requests, merges, sectors, ms for reads, for writes; three fields; then those for
  /// discards and flushes, which older kernels lack.
  init?(_ line: String) {
    let fields = line.split(separator: " ").compactMap { UInt64($0) }
    guard fields.count >= 11 else { return nil }
    func field(_ number: Int) -> UInt64 { number < fields.count ? fields[number] : 0 }
    (reads, readBytes) = (field(0), field(2) &* 512)
    (writes, writtenBytes) = (field(4), field(6) &* 512)
    (discards, discardedBytes) = (field(11), field(13) &* 512)
    flushes = field(15)
  }

  /// What was counted since `earlier`.
  func since(_ earlier: BlockStatistics) -> BlockStatistics {
    var difference = BlockStatistics()
    difference.reads = reads &- earlier.reads
    difference.readBytes = readBytes &- earlier.readBytes
    difference.writes = writes &- earlier.writes
    difference.writtenBytes = writtenBytes &- earlier.writtenBytes
    difference.discards = discards &- earlier.discards
    difference.discardedBytes = discardedBytes &- earlier.discardedBytes
    difference.flushes = flushes &- earlier.flushes
    return difference
  }
}
