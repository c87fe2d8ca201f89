import CTrace
import Glibc

/// What calls did, told by what they returned.
extension SyscallStream {
  @inline(__always)
  mutating func finish(_ kind: SyscallKind, _ index: Int32, _ time: UInt64, _ result: Int64, _ record: inout trace_record) {
    let state = threads[index]
    if time >= scope.attachedNanoseconds { count(kind, state.pointee.process, result) }
    switch kind {
    case .read, .write, .readv, .writev, .pread64, .pwrite64, .preadv, .pwritev, .preadv2, .pwritev2:
      finishTransfer(kind, index, time, result, &record)
    default: finishOther(kind, index, time, result, &record)
    }
  }

  /// Bytes that rchar and wchar of /proc/PID/io count too.
  @inline(__always)
  mutating func count(_ kind: SyscallKind, _ process: Int32, _ result: Int64) {
    guard result > 0 else { return }
    let bytes = UInt64(result)
    switch kind {
    case .read, .pread64, .readv, .preadv, .preadv2: processes[Int(process)].readBytes &+= bytes
    case .write, .pwrite64, .writev, .pwritev, .pwritev2: processes[Int(process)].writtenBytes &+= bytes
    case .sendfile64, .copyFileRange:
      processes[Int(process)].readBytes &+= bytes
      processes[Int(process)].writtenBytes &+= bytes
    default: break
    }
  }

  @inline(__always)
  mutating func finishTransfer(
    _ kind: SyscallKind, _ index: Int32, _ time: UInt64, _ result: Int64, _ record: inout trace_record
  ) {
    let arguments = threads[index].pointee.arguments
    let isVectored = kind.rawValue >= SyscallKind.readv.rawValue
    if isVectored {
      // The call names an array of buffers in the program's memory: what they hold is known from the result only.
      record.flags |= TraceEventFlags.vectored.rawValue
      if result >= 0 { record.size = UInt64(result) }
    } else {
      record.size = arguments.2
    }
    let isSequential: Bool
    switch kind {
    case .read, .write, .readv, .writev: isSequential = true
    case .preadv2, .pwritev2:
      isSequential = Int64(bitPattern: arguments.3) == -1
      record.flags |= Self.requestFlags(arguments.5)
    default: isSequential = false
    }
    let description = threads[index].pointee.description
    let isWrite = kind.operation == .write
    if !isSequential { record.offset = arguments.3 }
    if isSequential { record.flags |= TraceEventFlags.sequentialCall.rawValue }
    guard description >= 0 else { return }
    let state = open.descriptions[description]
    let appends = isWrite && state.pointee.flags != UInt32.max && state.pointee.flags & TraceEventFlags.append.rawValue != 0
    if appends {
      append(description, time, result, movesPosition: isSequential, &record)
    } else if isSequential {
      advance(description, time, result, &record)
    }
    if isWrite, result > 0, record.offset != TraceEvent.unknownOffset {
      open.extend(description, to: Int64(clamping: record.offset) &+ result)
    }
  }

  /// RWF flags of preadv2 and pwritev2.
  static func requestFlags(_ argument: UInt64) -> UInt32 {
    var flags: UInt32 = 0
    if argument & 1 != 0 { flags |= TraceEventFlags.highPriority.rawValue }
    if argument & 2 != 0 { flags |= TraceEventFlags.requestDataSync.rawValue }
    if argument & 4 != 0 { flags |= TraceEventFlags.requestSync.rawValue }
    if argument & 8 != 0 { flags |= TraceEventFlags.noWait.rawValue }
    return flags
  }

  /// A transfer at the description's position.
  @inline(__always)
  mutating func advance(_ description: Int32, _ time: UInt64, _ result: Int64, _ record: inout trace_record) {
    let state = open.descriptions[description]
    guard time > state.pointee.positionNanoseconds else { return }
    let hasPosition =
      state.pointee.kind == .regular || state.pointee.kind == .blockDevice
      || state.pointee.kind == .unknown && state.pointee.naming == .unresolved
    guard hasPosition, state.pointee.position >= 0 else { return }
    record.offset = UInt64(state.pointee.position)
    if state.pointee.isOverlapped { record.flags |= TraceEventFlags.inferredOffset.rawValue }
    if result > 0 { state.pointee.position &+= result }
  }

  /// A write at the end of the file, wherever that is.
  mutating func append(
    _ description: Int32, _ time: UInt64, _ result: Int64, movesPosition: Bool, _ record: inout trace_record
  ) {
    record.offset = TraceEvent.unknownOffset
    let state = open.descriptions[description]
    let size = open.size(of: description)
    guard size >= 0, time > state.pointee.sizeNanoseconds else { return }
    record.offset = UInt64(size)
    record.flags |= TraceEventFlags.inferredOffset.rawValue
    guard result > 0 else { return }
    open.setSize(of: description, size &+ result)
    if movesPosition { open.descriptions[description].pointee.position = size &+ result }
  }

  @inline(never)
  mutating func finishOther(
    _ kind: SyscallKind, _ index: Int32, _ time: UInt64, _ result: Int64, _ record: inout trace_record
  ) {
    let arguments = threads[index].pointee.arguments
    let description = threads[index].pointee.description
    switch kind {
    case .open: opened(index, time, result, flags: UInt32(truncatingIfNeeded: arguments.1), &record)
    case .openat: opened(index, time, result, flags: UInt32(truncatingIfNeeded: arguments.2), &record)
    case .openat2: opened(index, time, result, flags: UInt32.max, &record)
    case .creat: opened(index, time, result, flags: UInt32(O_CREAT | O_WRONLY | O_TRUNC), &record)
    case .dup, .dup2, .dup3, .fcntl: duplicated(kind, index, time, result, &record)
    case .accept, .accept4: accepted(index, time, result)
    case .lseek: sought(description, time, result, arguments, &record)
    case .truncate, .ftruncate:
      record.offset = arguments.1
      if kind == .ftruncate, result == 0, description >= 0 { open.setSize(of: description, Int64(clamping: arguments.1)) }
    case .syncFileRange:
      record.offset = arguments.1
      record.size = arguments.2
    case .fallocate:
      record.offset = arguments.2
      record.size = arguments.3
      // Neither a hole (mode 2) nor FALLOC_FL_KEEP_SIZE (1) makes the file longer.
      if result == 0, description >= 0, arguments.1 & 3 == 0 { open.extend(description, to: Int64(clamping: arguments.2 &+ arguments.3)) }
    case .msync: record.size = arguments.1
    case .sendto, .recvfrom: record.size = arguments.2
    case .sendmsg, .recvmsg: if result >= 0 { record.size = UInt64(result) }
    case .sendfile64: finishCopy(index, time, result, source: arguments.2, target: 0, size: arguments.3, &record)
    case .copyFileRange: finishCopy(index, time, result, source: arguments.1, target: arguments.3, size: arguments.4, &record)
    case .splice: finishCopy(index, time, result, source: arguments.1, target: arguments.3, size: arguments.4, &record)
    case .tee: record.size = arguments.2
    case .ioSubmit, .ioGetevents, .ioPgetevents: record.flags |= TraceEventFlags.asynchronous.rawValue
    default: break
    }
  }

  mutating func opened(_ index: Int32, _ time: UInt64, _ result: Int64, flags: UInt32, _ record: inout trace_record) {
    if flags != UInt32.max { record.flags |= Self.openFlags(flags) }
    guard result >= 0, result < Int64(OpenFiles.descriptorLimit) else { return }
    let process = threads[index].pointee.process
    let table = processes[Int(process)].table
    let descriptor = Int32(result)
    let known = open.find(table, descriptor)
    if known >= 0, time < open.descriptions[known].pointee.positionNanoseconds {
      // /proc was read after the call: it told of this very description.
      record.description = open.descriptions[known].pointee.number
      return
    }
    let description = open.opened(
      processes[Int(process)].number, descriptor, flags: flags == UInt32.max ? flags : OpenFiles.requestFlags(flags), at: time,
      began: max(threads[index].pointee.startNanoseconds, scope.attachedNanoseconds))
    let closes = flags != UInt32.max && Int32(bitPattern: flags) & O_CLOEXEC != 0
    open.set(table, descriptor, description, closeOnExec: closes, at: time)
    if flags != UInt32.max, Int32(bitPattern: flags) & O_TRUNC != 0, Int32(bitPattern: flags) & O_ACCMODE != O_RDONLY {
      open.descriptions[description].pointee.ownSize = 0
    }
    record.description = open.descriptions[description].pointee.number
    if flags != UInt32.max { record.flags |= open.descriptions[description].pointee.flags }
  }

  static func openFlags(_ flags: UInt32) -> UInt32 {
    var bits: UInt32 = 0
    let value = Int32(bitPattern: flags)
    if value & O_CREAT != 0 { bits |= TraceEventFlags.create.rawValue }
    if value & O_TRUNC != 0 { bits |= TraceEventFlags.truncating.rawValue }
    switch value & O_ACCMODE {
    case O_RDONLY: bits |= TraceEventFlags.openRead.rawValue
    case O_WRONLY: bits |= TraceEventFlags.openWrite.rawValue
    default: bits |= TraceEventFlags.openRead.rawValue | TraceEventFlags.openWrite.rawValue
    }
    return bits
  }

  mutating func duplicated(_ kind: SyscallKind, _ index: Int32, _ time: UInt64, _ result: Int64, _ record: inout trace_record) {
    guard result >= 0, result < Int64(OpenFiles.descriptorLimit) else { return }
    let arguments = threads[index].pointee.arguments
    let description = threads[index].pointee.description
    let table = processes[Int(threads[index].pointee.process)].table
    var closes = false
    if kind == .dup3 { closes = Int32(truncatingIfNeeded: arguments.2) & O_CLOEXEC != 0 }
    if kind == .fcntl {
      // F_DUPFD 0, F_SETFD 2, F_SETFL 4, F_DUPFD_CLOEXEC 1030 (fcntl.h).
      switch arguments.1 {
      case 0: break
      case 1030: closes = true
      case 2:
        open.setCloseOnExec(table, Int32(truncatingIfNeeded: arguments.0), arguments.2 & 1 != 0)
        return
      case 4:
        // F_SETFL leaves O_SYNC and O_DSYNC as they are.
        guard description >= 0, open.descriptions[description].pointee.flags != UInt32.max else { return }
        let kept = TraceEventFlags.sync.rawValue | TraceEventFlags.dataSync.rawValue
        let state = open.descriptions[description]
        state.pointee.flags = state.pointee.flags & kept | OpenFiles.requestFlags(UInt32(truncatingIfNeeded: arguments.2)) & ~kept
        return
      default: return
      }
    }
    let descriptor = Int32(result)
    if description >= 0 { open.descriptions[description].pointee.duplicate = descriptor }
    if open.find(table, descriptor) != description { open.set(table, descriptor, description, closeOnExec: closes, at: time) }
  }

  mutating func accepted(_ index: Int32, _ time: UInt64, _ result: Int64) {
    guard result >= 0, result < Int64(OpenFiles.descriptorLimit) else { return }
    // The connection is looked up when it is used.
    open.set(processes[Int(threads[index].pointee.process)].table, Int32(result), -1, closeOnExec: false, at: time)
  }

  mutating func sought(
    _ description: Int32, _ time: UInt64, _ result: Int64, _ arguments: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64),
    _ record: inout trace_record
  ) {
    if arguments.2 == UInt64(SEEK_SET) { record.offset = arguments.1 } else if result >= 0 { record.offset = UInt64(result) }
    guard result >= 0, description >= 0 else { return }
    let state = open.descriptions[description]
    guard time > state.pointee.positionNanoseconds else { return }
    state.pointee.position = result
    if arguments.2 == UInt64(SEEK_END) { open.setSize(of: description, result &- Int64(bitPattern: arguments.1)) }
  }

  /// Two descriptors; an offset of either stands in the program's memory, or its position is used.
  mutating func finishCopy(
    _ index: Int32, _ time: UInt64, _ result: Int64, source: UInt64, target: UInt64, size: UInt64, _ record: inout trace_record
  ) {
    record.size = size
    let (from, to) = (threads[index].pointee.description, threads[index].pointee.otherDescription)
    if source == 0, from >= 0 {
      record.flags |= TraceEventFlags.sequentialCall.rawValue
      advance(from, time, result, &record)
    }
    guard target == 0, to >= 0, result > 0 else { return }
    let state = open.descriptions[to]
    guard state.pointee.position >= 0, time > state.pointee.positionNanoseconds else { return }
    if state.pointee.flags & TraceEventFlags.append.rawValue == 0 { state.pointee.position &+= result }
    let end = state.pointee.position
    open.extend(to, to: end)
  }
}
