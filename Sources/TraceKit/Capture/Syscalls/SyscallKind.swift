import CTrace

/// The system calls that the routes of system calls follow.
enum SyscallKind: UInt8, CaseIterable, Sendable {
  // Data.
  case read, write, pread64, pwrite64, readv, writev, preadv, pwritev, preadv2, pwritev2
  // Durability.
  case fsync, fdatasync, syncFileRange, msync
  // Size and space.
  case truncate, ftruncate, fallocate
  // Descriptors.
  case open, openat, openat2, creat, close, closeRange, dup, dup2, dup3, fcntl, lseek
  // What relative paths begin with; followed where paths are read.
  case chdir, fchdir
  // Between two files.
  case sendfile64, splice, tee, copyFileRange
  // Sockets.
  case sendto, recvfrom, sendmsg, recvmsg, sendmmsg, recvmmsg, connect, accept, accept4
  // Asynchronous.
  case ioSubmit, ioGetevents, ioPgetevents

  /// The name in `events/syscalls/sys_enter_NAME`.
  var name: String {
    switch self {
    case .syncFileRange: "sync_file_range"
    case .closeRange: "close_range"
    case .copyFileRange: "copy_file_range"
    case .ioSubmit: "io_submit"
    case .ioGetevents: "io_getevents"
    case .ioPgetevents: "io_pgetevents"
    default: "\(self)"
    }
  }

  /// Its number (asm/unistd_64.h).
  var number: Int {
    let number =
      switch self {
      case .read: SYS_read
      case .write: SYS_write
      case .pread64: SYS_pread64
      case .pwrite64: SYS_pwrite64
      case .readv: SYS_readv
      case .writev: SYS_writev
      case .preadv: SYS_preadv
      case .pwritev: SYS_pwritev
      case .preadv2: SYS_preadv2
      case .pwritev2: SYS_pwritev2
      case .fsync: SYS_fsync
      case .fdatasync: SYS_fdatasync
      case .syncFileRange: SYS_sync_file_range
      case .msync: SYS_msync
      case .truncate: SYS_truncate
      case .ftruncate: SYS_ftruncate
      case .fallocate: SYS_fallocate
      case .open: SYS_open
      case .openat: SYS_openat
      case .openat2: SYS_openat2
      case .creat: SYS_creat
      case .close: SYS_close
      case .closeRange: SYS_close_range
      case .dup: SYS_dup
      case .dup2: SYS_dup2
      case .dup3: SYS_dup3
      case .fcntl: SYS_fcntl
      case .lseek: SYS_lseek
      case .chdir: SYS_chdir
      case .fchdir: SYS_fchdir
      case .sendfile64: SYS_sendfile
      case .splice: SYS_splice
      case .tee: SYS_tee
      case .copyFileRange: SYS_copy_file_range
      case .sendto: SYS_sendto
      case .recvfrom: SYS_recvfrom
      case .sendmsg: SYS_sendmsg
      case .recvmsg: SYS_recvmsg
      case .sendmmsg: SYS_sendmmsg
      case .recvmmsg: SYS_recvmmsg
      case .connect: SYS_connect
      case .accept: SYS_accept
      case .accept4: SYS_accept4
      case .ioSubmit: SYS_io_submit
      case .ioGetevents: SYS_io_getevents
      case .ioPgetevents: SYS_io_pgetevents
      }
    return Int(number)
  }

  /// What the trace calls it; nil for calls that only change what descriptors mean.
  var operation: TraceOperation? {
    switch self {
    case .read, .pread64, .readv, .preadv, .preadv2: .read
    case .write, .pwrite64, .writev, .pwritev, .pwritev2: .write
    case .fsync: .fsync
    case .fdatasync: .fdatasync
    case .syncFileRange: .syncFileRange
    case .msync: .msync
    case .truncate, .ftruncate: .truncate
    case .fallocate: .allocate
    case .open, .openat, .openat2, .creat: .open
    case .close: .close
    case .dup, .dup2, .dup3: .duplicate
    case .lseek: .seek
    case .sendfile64: .sendfile
    case .splice, .tee: .splice
    case .copyFileRange: .copyRange
    case .sendto, .sendmsg, .sendmmsg: .send
    case .recvfrom, .recvmsg, .recvmmsg: .receive
    case .connect: .connect
    case .accept, .accept4: .accept
    case .ioSubmit, .ioGetevents, .ioPgetevents: .other
    case .fcntl, .closeRange, .chdir, .fchdir: nil
    }
  }

  /// Number of its arguments.
  var argumentCount: Int {
    switch self {
    case .close, .dup, .fsync, .fdatasync, .chdir, .fchdir: 1
    case .creat, .dup2, .truncate, .ftruncate: 2
    case .read, .write, .readv, .writev, .msync, .open, .closeRange, .dup3, .fcntl, .lseek, .sendmsg, .recvmsg, .connect, .accept,
      .ioSubmit:
      3
    case .pread64, .pwrite64, .syncFileRange, .fallocate, .openat, .openat2, .sendfile64, .tee, .sendmmsg, .accept4: 4
    case .preadv, .pwritev, .recvmmsg, .ioGetevents: 5
    case .preadv2, .pwritev2, .splice, .copyFileRange, .sendto, .recvfrom, .ioPgetevents: 6
    }
  }

  /// The first argument is the descriptor that the call is about.
  var takesDescriptor: Bool {
    switch self {
    case .open, .openat, .openat2, .creat, .chdir, .fchdir, .truncate, .msync, .closeRange, .ioSubmit, .ioGetevents, .ioPgetevents,
      .sendfile64:
      false
    default: true
    }
  }

  /// The call submits or fetches requests of libaio.
  var isAio: Bool { rawValue >= SyscallKind.ioSubmit.rawValue }

  /// The call reads or writes at the description's position and moves it.
  var movesPosition: Bool {
    switch self {
    case .read, .write, .readv, .writev: true
    default: false
    }
  }
}
