import CTrace

/// Which events of tracefs the syscalls route reads, and where their fields are; from the `format` files of this kernel.
final class SyscallEvents: @unchecked Sendable {
  enum Role: UInt8 {
    case none, enter, exit, newTask, execute, endTask, uringSubmit, uringFile, uringComplete
  }
  struct Entry: BitwiseCopyable {
    var role = Role.none
    /// Raw value of a SyscallKind.
    var kind: UInt8 = 0
    var argumentCount: UInt8 = 0
    /// Byte of the first argument, or of the result.
    var offset: UInt16 = 0
  }
  /// By `common_type`, which has 16 bits.
  private let entries: UnsafeMutablePointer<Entry>
  private static let entryCount = 1 << 16
  private let typeField: TraceEventFormat.Field
  private let threadField: TraceEventFormat.Field
  /// `syscalls` events by name that this kernel has.
  private(set) var calls: [SyscallKind] = []
  private(set) var taskEvents: [(system: String, event: String)] = []
  private(set) var uringEvents: [String] = []
  let newTask: (child: TraceEventFormat.Field, flags: TraceEventFormat.Field)
  let execute: (thread: TraceEventFormat.Field, old: TraceEventFormat.Field)
  /// Nil where the kernel has no io_uring events.
  private(set) var submit: (request: TraceEventFormat.Field, opcode: TraceEventFormat.Field)?
  private(set) var file: (request: TraceEventFormat.Field, descriptor: TraceEventFormat.Field)?
  private(set) var complete: (request: TraceEventFormat.Field, result: TraceEventFormat.Field, flags: TraceEventFormat.Field)?

  typealias Formats = (_ system: String, _ event: String) throws(TraceError) -> TraceEventFormat?

  /// - Parameter formats: the format of an event, nil for one that the kernel lacks.
  /// - Throws: when the kernel has no events of system calls, or their format is not that of a 64-bit machine.
  init(_ formats: Formats) throws(TraceError) {
    guard let read = try formats("syscalls", "sys_enter_read"), let newTaskFormat = try formats("task", "task_newtask"),
      let executeFormat = try formats("sched", "sched_process_exec"), let endFormat = try formats("sched", "sched_process_exit")
    else {
      throw TraceError(
        .unsupported, "this kernel has no events of system calls (CONFIG_FTRACE_SYSCALLS); 'trace-record run' works without")
    }
    typeField = try read.field("common_type")
    threadField = try read.field("common_pid")
    newTask = (try newTaskFormat.field("pid"), try newTaskFormat.field("clone_flags"))
    execute = (try executeFormat.field("pid"), try executeFormat.field("old_pid"))
    entries = .allocate(capacity: Self.entryCount)
    entries.initialize(repeating: Entry(), count: Self.entryCount)
    entries[Int(newTaskFormat.number)].role = .newTask
    entries[Int(executeFormat.number)].role = .execute
    entries[Int(endFormat.number)].role = .endTask
    taskEvents = [("task", "task_newtask"), ("sched", "sched_process_exec"), ("sched", "sched_process_exit")]
    for kind in SyscallKind.allCases { try add(kind, formats) }
    try addUring(formats)
  }

  deinit { entries.deallocate() }

  private func add(_ kind: SyscallKind, _ formats: Formats) throws(TraceError) {
    guard let enter = try formats("syscalls", "sys_enter_\(kind.name)"), let exit = try formats("syscalls", "sys_exit_\(kind.name)")
    else { return }
    let arguments = enter.ownFields.filter { $0.name != "__syscall_nr" && !$0.isIndirect }
    guard arguments.count >= kind.argumentCount, let first = arguments.first else {
      throw TraceError(
        .unsupported, "tracefs: sys_enter_\(kind.name) of this kernel has \(arguments.count) arguments, not \(kind.argumentCount)")
    }
    for i in 0..<kind.argumentCount where arguments[i].size != 8 || arguments[i].offset != first.offset + 8 * i {
      throw TraceError(
        .unsupported, "tracefs: the arguments of sys_enter_\(kind.name) are not 64 bits one after another; this kernel is not supported")
    }
    let result = try exit.field("ret")
    guard result.size == 8 else { throw TraceError(.unsupported, "tracefs: results of system calls are not 64 bits wide on this kernel") }
    entries[Int(enter.number)] = Entry(
      role: .enter, kind: kind.rawValue, argumentCount: UInt8(kind.argumentCount), offset: UInt16(first.offset))
    entries[Int(exit.number)] = Entry(role: .exit, kind: kind.rawValue, offset: UInt16(result.offset))
    calls.append(kind)
  }

  private func addUring(_ formats: Formats) throws(TraceError) {
    guard let submitFormat = try formats("io_uring", "io_uring_submit_req"),
      let completeFormat = try formats("io_uring", "io_uring_complete")
    else { return }
    submit = (try submitFormat.field("req"), try submitFormat.field("opcode"))
    complete = (try completeFormat.field("req"), try completeFormat.field("res"), try completeFormat.field("cflags"))
    entries[Int(submitFormat.number)].role = .uringSubmit
    entries[Int(completeFormat.number)].role = .uringComplete
    uringEvents = ["io_uring_submit_req", "io_uring_complete"]
    if let fileFormat = try formats("io_uring", "io_uring_file_get") {
      file = (try fileFormat.field("req"), try fileFormat.field("fd"))
      entries[Int(fileFormat.number)].role = .uringFile
      uringEvents.append("io_uring_file_get")
    }
  }

  /// What an event is, and the thread in whose context it happened.
  @inline(__always)
  func look(_ event: RingPage.Event) -> (entry: Entry, thread: Int32) {
    let type = Int(typeField.value(event.bytes, event.length)) & 0xFFFF
    return (entries[type], Int32(truncatingIfNeeded: threadField.value(event.bytes, event.length)))
  }
}
