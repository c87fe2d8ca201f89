import CTrace
import Glibc

/// Loads and stores: reads copy from a shared mapping of the file, writes copy into it. What a system call costs elsewhere are page
/// faults here, which makes the two comparable.
///
/// A mapping has no end of its own: the file's is asked for at each request, so that reads beyond it are short. A write beyond it
/// first writes its own last byte with pwrite(2), which extends the file and, unlike ftruncate(2), never cuts what another worker
/// has just appended. Where a page turns out to be missing nevertheless (the file was truncated meanwhile, or the filesystem is
/// full or fails), the request is done by pread(2) or pwrite(2), whose answer says what happened.
public struct MmapEngine: IOEngine, ~Copyable {
  public static let name = "mmap"
  public static let summary =
    "load and store through a shared mapping of the file (always the page cache), one request at a time per worker"

  /// Part of a file that is mapped; pages beyond the file's end are not touched.
  private struct Mapping: BitwiseCopyable {
    var address: UnsafeMutableRawPointer?
    var startBytes: Int64
    var lengthBytes: Int
  }

  /// Mappings per worker; the kernel allows a process 65,530 (vm.max_map_count).
  private static let maximumMappings = 512
  /// Mappings grow and begin in steps of this, so that a growing file is seldom mapped again.
  private static let stepBytes: Int64 = 1 << 30
  /// A file up to this long is mapped whole.
  private static let maximumWholeBytes: Int64 = 1 << 40

  private let descriptors: UnsafeMutablePointer<Int32>
  private let mappings: UnsafeMutablePointer<Mapping>
  private let rowCount: Int
  /// Rows in the order in which they were mapped: a ring.
  private let mapped: UnsafeMutablePointer<Int32>
  private var oldest = 0
  private var mappedCount = 0

  public init(_ configuration: EngineConfiguration) {
    ctrace_catch_bus_errors()
    // Two descriptors per file, the second with O_DIRECT, which means nothing to a mapping.
    rowCount = (configuration.descriptors.count + 1) / 2
    descriptors = .allocate(capacity: max(1, rowCount))
    mappings = .allocate(capacity: max(1, rowCount))
    mapped = .allocate(capacity: Self.maximumMappings)
    for row in 0..<rowCount {
      descriptors[row] = configuration.descriptors[row * 2]
      mappings[row] = Mapping(address: nil, startBytes: 0, lengthBytes: 0)
    }
  }

  deinit {
    for row in 0..<rowCount {
      if let address = mappings[row].address { munmap(address, mappings[row].lengthBytes) }
    }
    descriptors.deallocate()
    mappings.deallocate()
    mapped.deallocate()
  }

  public static func meaning(of code: Int32, _ kind: IOOperation.Kind) -> String? {
    guard code == ENODEV, kind == .read || kind == .write else { return nil }
    return "this filesystem cannot map files (No such device); --engine sync does without"
  }

  // MARK: Requests

  @inline(__always)
  public mutating func queue(_ operation: IOOperation, slot: Int32) -> QueueStatus {
    var operation = operation
    let row = Int(operation.fileIndex) >> 1
    guard row >= 0, row < rowCount else { return .completed(-Int64(EBADF)) }
    operation.fileDescriptor = descriptors[row]
    switch operation.kind {
    case .read: return .completed(load(operation, row))
    case .write: return .completed(store(operation, row))
    case .fsync, .fdatasync: return .completed(synchronise(operation, row))
    default: return .completed(SyncEngine.perform(operation))
    }
  }

  @inline(__always)
  private mutating func load(_ operation: IOOperation, _ row: Int) -> Int64 {
    let end = lseek(operation.fileDescriptor, 0, SEEK_END)
    if end < 0 { return -Int64(errno) }
    let length = min(operation.lengthBytes, end - Int(operation.offsetBytes))
    guard length > 0 else { return 0 }
    guard let memory = address(row, operation.offsetBytes, length, end) else { return -Int64(errno) }
    if ctrace_guarded_copy(operation.buffer, memory, length) != 0 { return SyncEngine.perform(operation) }
    return Int64(length)
  }

  @inline(__always)
  private mutating func store(_ operation: IOOperation, _ row: Int) -> Int64 {
    let length = operation.lengthBytes
    guard length > 0 else { return 0 }
    let size = lseek(operation.fileDescriptor, 0, SEEK_END)
    if size < 0 { return -Int64(errno) }
    let end = Int(operation.offsetBytes) + length
    if end > size, let code = extend(operation) { return -Int64(code) }
    guard let memory = address(row, operation.offsetBytes, length, max(size, end)) else { return -Int64(errno) }
    if ctrace_guarded_copy(memory, operation.buffer, length) != 0 { return SyncEngine.perform(operation) }
    if operation.flags != 0 { return flush(memory, length) }
    return Int64(length)
  }

  /// Writes the last byte of a request that reaches beyond the file's end; the errno when that fails.
  @inline(never)
  private func extend(_ operation: IOOperation) -> Int32? {
    let last = operation.lengthBytes - 1
    while pwrite(operation.fileDescriptor, operation.buffer! + last, 1, Int(operation.offsetBytes) + last) != 1 {
      if errno != EINTR { return errno }
    }
    return nil
  }

  /// What RWF_SYNC and RWF_DSYNC ask for.
  @inline(never)
  private func flush(_ memory: UnsafeMutableRawPointer, _ length: Int) -> Int64 {
    let excess = Int(bitPattern: memory) & 4095
    return msync(memory - excess, length + excess, MS_SYNC) == 0 ? Int64(length) : -Int64(errno)
  }

  private mutating func synchronise(_ operation: IOOperation, _ row: Int) -> Int64 {
    if let address = mappings[row].address {
      let end = lseek(operation.fileDescriptor, 0, SEEK_END)
      let length = min(mappings[row].lengthBytes, end - Int(mappings[row].startBytes))
      if length > 0, msync(address, length, MS_SYNC) != 0 { return -Int64(errno) }
    }
    return SyncEngine.perform(operation)
  }

  // MARK: Mappings

  /// Where `length` bytes at `offset` are mapped; nil with errno when they can't be.
  @inline(__always)
  private mutating func address(_ row: Int, _ offset: Int64, _ length: Int, _ fileEnd: Int) -> UnsafeMutableRawPointer? {
    let mapping = mappings[row]
    if let address = mapping.address, offset >= mapping.startBytes,
      offset + Int64(length) <= mapping.startBytes + Int64(mapping.lengthBytes)
    {
      return address + Int(offset - mapping.startBytes)
    }
    return map(row, offset, length, Int64(fileEnd))
  }

  @inline(never)
  private mutating func map(_ row: Int, _ offset: Int64, _ length: Int, _ fileEnd: Int64) -> UnsafeMutableRawPointer? {
    let isNew = mappings[row].address == nil
    unmap(row)
    if isNew, mappedCount == Self.maximumMappings { unmapOldest() }
    let isWritable = fcntl(descriptors[row], F_GETFL) & O_ACCMODE == O_RDWR
    let whole = fileEnd <= Self.maximumWholeBytes
    var start = whole ? 0 : offset / Self.stepBytes * Self.stepBytes
    var bytes = Self.roundedUp(max(whole ? fileEnd : 0, offset + Int64(length)) - start)
    var address = ctrace_map_file(descriptors[row], start, Int(bytes), isWritable ? 1 : 0)
    if address == nil, errno == ENOMEM {
      // Too little address space: nothing but what this request needs.
      while mappedCount > 0 { unmapOldest() }
      start = offset / Self.stepBytes * Self.stepBytes
      bytes = Self.roundedUp(offset + Int64(length) - start)
      address = ctrace_map_file(descriptors[row], start, Int(bytes), isWritable ? 1 : 0)
    }
    guard let address else { return nil }
    mappings[row] = Mapping(address: address, startBytes: start, lengthBytes: Int(bytes))
    remember(row)
    return address + Int(offset - start)
  }

  private static func roundedUp(_ bytes: Int64) -> Int64 { (bytes + stepBytes - 1) / stepBytes * stepBytes }

  private mutating func remember(_ row: Int) {
    for i in 0..<mappedCount where mapped[(oldest + i) % Self.maximumMappings] == Int32(row) { return }
    mapped[(oldest + mappedCount) % Self.maximumMappings] = Int32(row)
    mappedCount += 1
  }

  private func unmap(_ row: Int) {
    guard let address = mappings[row].address else { return }
    munmap(address, mappings[row].lengthBytes)
    mappings[row].address = nil
  }

  private mutating func unmapOldest() {
    unmap(Int(mapped[oldest]))
    oldest = (oldest + 1) % Self.maximumMappings
    mappedCount -= 1
  }
}
