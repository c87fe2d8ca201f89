import CTrace

/// Which events the routes of system calls read, and where their fields are; from the `format` files of this kernel, or as programs in
/// the kernel store them.
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
  /// Numbers of the calls that programs in the kernel record, and the types of their records; empty where tracefs does.
  private(set) var recordedCalls: [(number: Int, begin: UInt16, end: UInt16)] = []
  /// Which of them come with what was read from the program's memory.
  private(set) var memoryCalls = CallPrograms.MemoryCalls()
  /// Requests of libaio and paths are read from the program's memory.
  var readsMemory: Bool { !recordedCalls.isEmpty }
  let newTask: (child: TraceEventFormat.Field, flags: TraceEventFormat.Field)
  let execute: (thread: TraceEventFormat.Field, old: TraceEventFormat.Field)
  /// Nil where the kernel has no io_uring events.
  private(set) var submit: (request: TraceEventFormat.Field, opcode: TraceEventFormat.Field)?
  /// Of a submitted request; nil where the submission does not tell it.
  private(set) var submitted: (position: TraceEventFormat.Field, length: TraceEventFormat.Field)?
  private(set) var file: (request: TraceEventFormat.Field, descriptor: TraceEventFormat.Field)?
  private(set) var complete: (request: TraceEventFormat.Field, result: TraceEventFormat.Field, flags: TraceEventFormat.Field)?

  typealias Formats = (_ system: String, _ event: String) throws(TraceError) -> TraceEventFormat?

  /// - Parameters:
  ///   - formats: the format of an event, nil for one that the kernel lacks.
  ///   - byPrograms: calls are recorded by programs in the kernel (BPF), in records that begin as the events of tracefs do.
  /// - Throws: when the kernel has no events of system calls or of tasks, or their format is not that of a 64-bit machine.
  init(_ formats: Formats, byPrograms: Bool = false) throws(TraceError) {
    let hasCalls = try byPrograms ? true : formats("syscalls", "sys_enter_read") != nil
    guard hasCalls, let newTaskFormat = try formats("task", "task_newtask"),
      let executeFormat = try formats("sched", "sched_process_exec"), let endFormat = try formats("sched", "sched_process_exit")
    else {
      throw TraceError(
        .unsupported, "this kernel has no events of system calls (CONFIG_FTRACE_SYSCALLS); 'trace-record run' works without")
    }
    typeField = try newTaskFormat.field("common_type")
    threadField = try newTaskFormat.field("common_pid")
    newTask = (try newTaskFormat.field("pid"), try newTaskFormat.field("clone_flags"))
    execute = (try executeFormat.field("pid"), try executeFormat.field("old_pid"))
    entries = .allocate(capacity: Self.entryCount)
    entries.initialize(repeating: Entry(), count: Self.entryCount)
    entries[Int(newTaskFormat.number)].role = .newTask
    entries[Int(executeFormat.number)].role = .execute
    entries[Int(endFormat.number)].role = .endTask
    taskEvents = [("task", "task_newtask"), ("sched", "sched_process_exec"), ("sched", "sched_process_exit")]
    if byPrograms {
      try checkRecords()
      for kind in SyscallKind.allCases { addRecord(kind) }
    } else {
      for kind in SyscallKind.allCases where kind != .chdir && kind != .fchdir { try add(kind, formats) }
    }
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

  // MARK: Records of programs in the kernel

  /// Types of records lie above those of this kernel's events, which are numbered from 1.
  private static let firstRecordType: UInt16 = 0x7000
  static let submitRecordType: UInt16 = 0x6FFF
  private static let valuesOffset = 16
  /// A record that is longer has something behind it that was read from memory.
  static let recordBytes = CallRings.Layout.recordBytes

  private func checkRecords() throws(TraceError) {
    guard typeField.offset == 0, typeField.size == 2, threadField.offset == 4, threadField.size == 4 else {
      throw TraceError(.unsupported, "tracefs: the events of this kernel do not begin with a type and a thread where they are looked for")
    }
  }

  private func addRecord(_ kind: SyscallKind) {
    let begin = Self.firstRecordType + 2 * UInt16(kind.rawValue)
    entries[Int(begin)] = Entry(
      role: .enter, kind: kind.rawValue, argumentCount: UInt8(kind.argumentCount), offset: UInt16(Self.valuesOffset))
    entries[Int(begin) + 1] = Entry(role: .exit, kind: kind.rawValue, offset: UInt16(Self.valuesOffset))
    calls.append(kind)
    let mark = CallPrograms.MemoryCalls.mark
    let end = begin + 1
    switch kind {
    case .open, .creat, .chdir: memoryCalls.firstPath.append(end)
    case .openat, .openat2: memoryCalls.secondPath.append(end)
    case .ioGetevents, .ioPgetevents: memoryCalls.completions.append(end)
    case .ioSubmit:
      memoryCalls.submit = begin
      recordedCalls.append((kind.number, begin | mark, end))
      return
    default:
      recordedCalls.append((kind.number, begin, end))
      return
    }
    recordedCalls.append((kind.number, begin, end | mark))
  }

  /// Requests of io_uring come from a program too, which knows their position and length.
  func takeRequestsFromPrograms() {
    func value(_ index: Int, _ name: String) -> TraceEventFormat.Field {
      .init(name: name, offset: Self.valuesOffset + 8 * index, size: 8, isSigned: false, isIndirect: false)
    }
    submit = (value(0, "req"), value(1, "opcode"))
    submitted = (value(2, "position"), value(3, "length"))
    entries[Int(Self.submitRecordType)].role = .uringSubmit
    uringEvents.removeAll { $0 == "io_uring_submit_req" }
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
