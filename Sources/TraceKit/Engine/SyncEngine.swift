import CTrace
import Glibc

/// One system call at a time: pread(2), pwrite(2) (preadv2 and pwritev2 where a request carries RWF_* flags), fsync, fdatasync,
/// sync_file_range, ftruncate, fallocate; BLKDISCARD on block devices.
public struct SyncEngine: IOEngine, ~Copyable {
  public static let name = "sync"
  public static let summary = "one blocking system call at a time per worker"
  /// Most bytes that Linux moves in one call (MAX_RW_COUNT in include/linux/fs.h).
  static let maximumTransferBytes = 0x7FFF_F000
  public init(_ configuration: EngineConfiguration) {}

  @inline(__always)
  public mutating func queue(_ operation: IOOperation, slot: Int32) -> QueueStatus { .completed(Self.perform(operation)) }

  /// Does the whole operation; bytes moved or −errno.
  @inline(__always)
  static func perform(_ operation: IOOperation) -> Int64 {
    while true {
      let result = call(operation)
      if result >= 0 {
        if operation.lengthBytes > maximumTransferBytes, operation.kind == .read || operation.kind == .write {
          return resume(operation, done: result)
        }
        return result
      }
      if result != -Int64(EINTR) { return result }
    }
  }

  /// The rest of a request that the kernel cut at its limit per call.
  private static func resume(_ operation: IOOperation, done: Int64) -> Int64 {
    var total = Int(done)
    while total < operation.lengthBytes, total % maximumTransferBytes == 0, total > 0 {
      var rest = operation
      rest.offsetBytes += Int64(total)
      rest.lengthBytes -= total
      rest.buffer = operation.buffer.map { $0 + total }
      let result = call(rest)
      if result == -Int64(EINTR) { continue }
      if result <= 0 { break }
      total += Int(result)
    }
    return Int64(total)
  }

  /// One system call: its result or −errno.
  @inline(__always)
  private static func call(_ operation: IOOperation) -> Int64 {
    let descriptor = operation.fileDescriptor
    if operation.kind == .read, operation.flags == 0 {
      return ctrace_raw_pread(descriptor, operation.buffer, operation.lengthBytes, operation.offsetBytes)
    }
    if operation.kind == .write, operation.flags == 0 {
      return ctrace_raw_pwrite(descriptor, operation.buffer, operation.lengthBytes, operation.offsetBytes)
    }
    let result = otherCall(operation, descriptor)
    return result < 0 ? -Int64(errno) : Int64(result)
  }

  @inline(never)
  private static func otherCall(_ operation: IOOperation, _ descriptor: Int32) -> Int {
    switch operation.kind {
    case .read:
      return ctrace_pread2(descriptor, operation.buffer, operation.lengthBytes, operation.offsetBytes, operation.flags)
    case .write:
      return ctrace_pwrite2(descriptor, operation.buffer, operation.lengthBytes, operation.offsetBytes, operation.flags)
    case .fsync: return Int(fsync(descriptor))
    case .fdatasync: return Int(fdatasync(descriptor))
    case .syncFileRange:
      return Int(ctrace_sync_file_range(descriptor, operation.offsetBytes, Int64(operation.lengthBytes), UInt32(operation.flags)))
    case .truncate: return Int(ftruncate(descriptor, Int(operation.offsetBytes)))
    case .allocate: return Int(ctrace_fallocate(descriptor, operation.flags, operation.offsetBytes, Int64(operation.lengthBytes)))
    case .discard:
      if operation.isBlockDevice {
        return Int(ctrace_block_discard(descriptor, UInt64(operation.offsetBytes), UInt64(operation.lengthBytes)))
      }
      return Int(ctrace_fallocate(descriptor, CTRACE_FALLOC_PUNCH_HOLE, operation.offsetBytes, Int64(operation.lengthBytes)))
    }
  }
}
