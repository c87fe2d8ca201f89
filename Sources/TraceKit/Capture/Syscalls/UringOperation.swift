/// Operations of io_uring requests; the numbers are those of enum io_uring_op in linux/io_uring.h.
enum UringOperation {
  private static let names = [
    "nop", "readv", "writev", "fsync", "read_fixed", "write_fixed", "poll_add", "poll_remove", "sync_file_range", "sendmsg", "recvmsg",
    "timeout", "timeout_remove", "accept", "async_cancel", "link_timeout", "connect", "fallocate", "openat", "close", "files_update",
    "statx", "read", "write", "fadvise", "madvise", "send", "recv", "openat2", "epoll_ctl", "splice", "provide_buffers",
    "remove_buffers", "tee", "shutdown", "renameat", "unlinkat", "mkdirat", "symlinkat", "linkat", "msg_ring", "fsetxattr", "setxattr",
    "fgetxattr", "getxattr", "socket", "uring_cmd", "send_zc", "sendmsg_zc", "read_multishot", "waitid", "futex_wait", "futex_wake",
    "futex_waitv", "fixed_fd_install", "ftruncate", "bind", "listen", "recv_zc", "epoll_wait", "readv_fixed", "writev_fixed", "pipe",
  ]

  static func name(_ opcode: UInt8) -> String { Int(opcode) < names.count ? names[Int(opcode)] : "opcode \(opcode)" }

  private static func table(_ wanted: Set<String>) -> [Bool] { (0..<256).map { wanted.contains(name(UInt8($0))) } }
  private static let vectored = table(["readv", "writev", "readv_fixed", "writev_fixed"])
  private static let positioned = table(["readv", "writev", "readv_fixed", "writev_fixed", "read", "write", "read_fixed", "write_fixed"])

  /// The request names an array of buffers; its length is how many.
  static func isVectored(_ opcode: UInt8) -> Bool { vectored[Int(opcode)] }

  /// The request says where in the file it reads or writes.
  static func hasPosition(_ opcode: UInt8) -> Bool { positioned[Int(opcode)] }

  /// What the trace calls it; nil for requests that are counted only.
  static func operation(_ opcode: UInt8) -> TraceOperation? {
    switch name(opcode) {
    case "readv", "read_fixed", "read", "read_multishot", "readv_fixed": .read
    case "writev", "write_fixed", "write", "writev_fixed": .write
    case "fsync": .fsync
    case "sync_file_range": .syncFileRange
    case "fallocate": .allocate
    case "ftruncate": .truncate
    case "sendmsg", "send", "send_zc", "sendmsg_zc": .send
    case "recvmsg", "recv", "recv_zc": .receive
    case "accept": .accept
    case "connect": .connect
    case "openat", "openat2": .open
    case "close": .close
    case "splice", "tee": .splice
    default: nil
    }
  }
}
