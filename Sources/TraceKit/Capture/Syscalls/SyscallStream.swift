import CTrace
import Glibc

/// Makes requests of the kernel's events: pairs begin and end of calls, and follows what descriptors and positions mean. One
/// thread's.
struct SyscallStream: ~Copyable {
  /// What is recorded.
  struct Scope: Sendable {
    /// CLOCK_MONOTONIC of the trace's time 0.
    var epochNanoseconds: UInt64
    /// Only calls that end later are recorded; what came before brought the tables up to date.
    var attachedNanoseconds: UInt64
    /// Threads that nobody named are recorded (`--all`).
    var takesAll: Bool
  }
  struct Thread: BitwiseCopyable {
    var number: Int32
    /// Of `processes`.
    var process: Int32
    /// Raw value of the SyscallKind of the call under way, or `noCall`.
    var call: UInt8 = noCall
    /// A worker of io_uring that no event announces: it has no part in the life of its process.
    var isWorker = false
    /// Some event of the thread was seen: an end without a begin is no call from before.
    var isSeen = false
    var lossEpoch: UInt32 = 0
    var startNanoseconds: UInt64 = 0
    var description: Int32 = -1
    var otherDescription: Int32 = -1
    var arguments: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0)
  }
  struct Process: BitwiseCopyable {
    var number: Int32
    /// Among `processes`; −1 when it is not recorded.
    var parent: Int32
    var table: Int32
    var threads: Int32
    var readBytes: UInt64 = 0
    var writtenBytes: UInt64 = 0
    var isAlive = true
    /// It was gone from /proc when it was last looked for.
    var isMissing = false
  }
  struct UringRequest: BitwiseCopyable {
    var startNanoseconds: UInt64
    var process: Int32
    var thread: Int32
    var description: Int32
    var opcode: UInt8
  }
  static let noCall: UInt8 = 255
  private static let foreign: Int32 = -2
  private let events: SyscallEvents
  private let scope: Scope
  private var threads = Slab<Thread>()
  private var threadCount = 0
  /// By thread number: −1 none, −2 not ours, else where it stands in `threads`.
  private let threadOfNumber: UnsafeMutablePointer<Int32>
  private let threadLimit: Int
  private var processes: [Process] = []
  private var processOfNumber: [Int32: Int32] = [:]
  private var open = OpenFiles()
  private var requests: [UInt64: UringRequest] = [:]
  private var lossEpoch: UInt32 = 0
  /// When processes are looked for next (CLOCK_MONOTONIC).
  private var nextLook: UInt64 = 0
  private var callCounts: [UInt64]
  private var uringCounts = [UInt64](repeating: 0, count: 256)
  private var counters = SyscallCounters()
  /// Living processes among those that are recorded.
  private(set) var livingProcesses = 0

  init(events: SyscallEvents, scope: Scope) {
    self.events = events
    self.scope = scope
    let limit = SmallFile.line("/proc/sys/kernel/pid_max").flatMap { Int($0) } ?? 1 << 22
    threadLimit = min(max(limit, 1 << 15), 1 << 22) + 1
    threadOfNumber = .allocate(capacity: threadLimit)
    threadOfNumber.initialize(repeating: -1, count: threadLimit)
    callCounts = Array(repeating: 0, count: 256)
  }

  deinit { threadOfNumber.deallocate() }

  // MARK: What is there at attach

  /// Takes in a process as /proc showed it.
  mutating func seed(_ snapshot: ProcessSnapshot, into records: inout RecordBuffer) {
    let parent = processOfNumber[snapshot.parent] ?? -1
    let process = makeProcess(snapshot.process, parent: parent, table: open.makeTable())
    for thread in snapshot.threads { _ = makeThread(thread, process) }
    let table = processes[Int(process)].table
    for (descriptor, source) in snapshot.descriptors {
      var description: Int32 = -1
      switch source {
      case .same(let other, let otherDescriptor, _):
        if let known = processOfNumber[other] { description = open.find(processes[Int(known)].table, otherDescriptor) }
      case .facts(let facts):
        description = open.found(facts, process: snapshot.process, descriptor: descriptor, isVerified: true)
        records.define(open.descriptions[description].pointee.number, facts)
      }
      let closes = source.openFlags.map { Int32(bitPattern: $0) & O_CLOEXEC != 0 } ?? false
      open.set(table, descriptor, description, closeOnExec: closes, at: 0)
    }
    counters.sharedMappings += UInt64(snapshot.sharedMappings)
  }

  private mutating func makeProcess(_ number: Int32, parent: Int32, table: Int32) -> Int32 {
    processes.append(Process(number: number, parent: parent, table: table, threads: 0))
    let index = Int32(processes.count - 1)
    processOfNumber[number] = index
    livingProcesses += 1
    counters.processes += 1
    return index
  }

  private mutating func makeThread(_ number: Int32, _ process: Int32, isWorker: Bool = false) -> Int32 {
    guard number >= 0, Int(number) < threadLimit else { return -1 }
    let known = threadOfNumber[Int(number)]
    if known >= 0 { return known }
    let index = threads.add(Thread(number: number, process: process, isWorker: isWorker))
    threadOfNumber[Int(number)] = index
    threadCount = max(threadCount, Int(index) + 1)
    if !isWorker { processes[Int(process)].threads += 1 }
    counters.threads += 1
    return index
  }

  /// A thread that nobody announced: of a process that appeared meanwhile, or of one whose beginning was lost.
  private mutating func discover(_ number: Int32) -> Int32 {
    guard number > 0, Int(number) < threadLimit else { return -1 }
    let group = ProcessSnapshot.threadGroup(of: number) ?? number
    let process =
      processOfNumber[group].flatMap { processes[Int($0)].isAlive ? $0 : nil } ?? makeProcess(group, parent: -1, table: open.makeTable())
    return makeThread(number, process)
  }

  // MARK: Events

  /// Takes one event in.
  @inline(__always)
  mutating func accept(_ event: RingPage.Event, isBehindLoss: Bool, into records: inout RecordBuffer) {
    if isBehindLoss { lossEpoch &+= 1 }
    let (entry, number) = events.look(event)
    switch entry.role {
    case .enter: enter(entry, number, event, &records)
    case .exit: exit(entry, number, event, &records)
    case .none: break
    default: acceptRare(entry, number, event, &records)
    }
  }

  @inline(never)
  private mutating func acceptRare(
    _ entry: SyscallEvents.Entry, _ number: Int32, _ event: RingPage.Event, _ records: inout RecordBuffer
  ) {
    switch entry.role {
    case .newTask: newTask(number, event)
    case .execute: execute(event)
    case .endTask: endTask(number)
    case .uringSubmit: uringSubmit(number, event)
    case .uringFile: uringFile(event)
    case .uringComplete: uringComplete(event, &records)
    default: break
    }
  }

  @inline(__always)
  private mutating func thread(_ number: Int32) -> Int32 {
    guard number > 0, Int(number) < threadLimit else { return -1 }
    let known = threadOfNumber[Int(number)]
    return known >= 0 ? known : discover(number)
  }

  // MARK: Calls

  private mutating func enter(
    _ entry: SyscallEvents.Entry, _ number: Int32, _ event: RingPage.Event, _ records: inout RecordBuffer
  ) {
    let index = thread(number)
    guard index >= 0, Int(entry.offset) + 8 * Int(entry.argumentCount) <= event.length else { return }
    let state = threads[index]
    if state.pointee.call != Self.noCall {
      counters.callsWithoutEnd += 1
      letGo(index)
    }
    state.pointee.isSeen = true
    state.pointee.call = entry.kind
    state.pointee.startNanoseconds = event.nanoseconds
    state.pointee.lossEpoch = lossEpoch
    withUnsafeMutableBytes(of: &state.pointee.arguments) {
      $0.baseAddress!.copyMemory(from: event.bytes + Int(entry.offset), byteCount: 8 * Int(entry.argumentCount))
    }
    guard let kind = SyscallKind(rawValue: entry.kind) else { return }
    if kind.takesDescriptor {
      let description = describe(state.pointee.process, Int32(truncatingIfNeeded: state.pointee.arguments.0), event.nanoseconds)
      hold(index, description)
      if description >= 0, kind.movesPosition { usePosition(description) }
    }
    if kind.rawValue >= SyscallKind.close.rawValue { enterOther(kind, index, event.nanoseconds) }
  }

  /// What a call changes or names beyond its first descriptor.
  private mutating func enterOther(_ kind: SyscallKind, _ index: Int32, _ time: UInt64) {
    let arguments = threads[index].pointee.arguments
    let process = threads[index].pointee.process
    switch kind {
    case .close:
      // The number is free from the beginning of the call, another thread may get it before the end.
      open.set(processes[Int(process)].table, Int32(truncatingIfNeeded: arguments.0), -1, closeOnExec: false, at: time)
    case .closeRange: closeRange(processes[Int(process)].table, arguments, time)
    case .sendfile64:
      hold(index, describe(process, Int32(truncatingIfNeeded: arguments.1), time))
      holdOther(index, describe(process, Int32(truncatingIfNeeded: arguments.0), time))
    case .splice, .copyFileRange: holdOther(index, describe(process, Int32(truncatingIfNeeded: arguments.2), time))
    case .tee: holdOther(index, describe(process, Int32(truncatingIfNeeded: arguments.1), time))
    default: break
    }
  }

  private mutating func closeRange(_ table: Int32, _ arguments: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64), _ time: UInt64) {
    let first = Int32(clamping: arguments.0 & 0xFFFF_FFFF)
    let last = min(Int32(clamping: arguments.1 & 0xFFFF_FFFF), open.capacity(table) - 1)
    guard first <= last else { return }
    for descriptor in first...last {
      // CLOSE_RANGE_CLOEXEC
      if arguments.2 & 4 != 0 {
        open.setCloseOnExec(table, descriptor, true)
      } else {
        open.set(table, descriptor, -1, closeOnExec: false, at: time)
      }
    }
  }

  /// The description of a descriptor; /proc is asked for one that is not known.
  @inline(__always)
  private mutating func describe(_ process: Int32, _ descriptor: Int32, _ time: UInt64) -> Int32 {
    let known = open.find(processes[Int(process)].table, descriptor)
    return known >= 0 ? known : lookUp(process, descriptor, time)
  }

  @inline(never)
  private mutating func lookUp(_ process: Int32, _ descriptor: Int32, _ time: UInt64) -> Int32 {
    guard descriptor >= 0, descriptor < OpenFiles.descriptorLimit, processes[Int(process)].isAlive,
      let facts = DescriptorFacts(process: processes[Int(process)].number, descriptor: descriptor, withPosition: true)
    else { return -1 }
    let description = open.found(facts, process: processes[Int(process)].number, descriptor: descriptor, isVerified: false)
    open.descriptions[description].pointee.openedNanoseconds = time
    let closes = facts.openFlags.map { Int32(bitPattern: $0) & O_CLOEXEC != 0 } ?? false
    open.set(processes[Int(process)].table, descriptor, description, closeOnExec: closes, at: time)
    return description
  }

  @inline(__always)
  private mutating func hold(_ thread: Int32, _ description: Int32) {
    threads[thread].pointee.description = description
    if description >= 0 { open.retain(description) }
  }

  private mutating func holdOther(_ thread: Int32, _ description: Int32) {
    threads[thread].pointee.otherDescription = description
    if description >= 0 { open.retain(description) }
  }

  @inline(__always)
  private mutating func usePosition(_ description: Int32) {
    let state = open.descriptions[description]
    state.pointee.positionUsers += 1
    if state.pointee.positionUsers > 1 { state.pointee.isOverlapped = true }
  }

  /// The thread's call is over, or never will be.
  @inline(__always)
  private mutating func letGo(_ index: Int32) {
    let state = threads[index]
    let description = state.pointee.description
    if description >= 0 {
      if let kind = SyscallKind(rawValue: state.pointee.call), kind.movesPosition {
        let users = open.descriptions[description]
        users.pointee.positionUsers -= 1
        if users.pointee.positionUsers <= 0 { users.pointee.isOverlapped = false }
      }
      open.release(description)
      state.pointee.description = -1
    }
    if state.pointee.otherDescription >= 0 {
      open.release(state.pointee.otherDescription)
      state.pointee.otherDescription = -1
    }
    state.pointee.call = Self.noCall
  }

  private mutating func exit(
    _ entry: SyscallEvents.Entry, _ number: Int32, _ event: RingPage.Event, _ records: inout RecordBuffer
  ) {
    let index = thread(number)
    guard index >= 0, Int(entry.offset) + 8 <= event.length, let kind = SyscallKind(rawValue: entry.kind) else { return }
    var result = event.bytes.loadUnaligned(fromByteOffset: Int(entry.offset), as: Int64.self)
    // Interrupted calls that the kernel begins again (ERESTARTSYS to ERESTART_RESTARTBLOCK): the program sees EINTR, or the next.
    if result <= -512, result >= -516 { result = -Int64(EINTR) }
    guard threads[index].pointee.call == entry.kind else {
      endWithoutBegin(kind, index, event.nanoseconds, result, &records)
      return
    }
    let isUncertain = threads[index].pointee.lossEpoch != lossEpoch
    if isUncertain { counters.uncertainCalls += 1 }
    var record = trace_record()
    record.offset = TraceEvent.unknownOffset
    record.size = TraceEvent.unknownSize
    record.result = result
    finish(kind, index, event.nanoseconds, result, &record)
    if let operation = kind.operation, event.nanoseconds >= scope.attachedNanoseconds {
      record.operation = operation.rawValue
      complete(&record, kind, index, event.nanoseconds, isUncertain)
      records.append(record, process: processes[Int(threads[index].pointee.process)].number)
    }
    letGo(index)
  }

  /// What every event of a call has.
  @inline(__always)
  private mutating func complete(
    _ record: inout trace_record, _ kind: SyscallKind, _ index: Int32, _ end: UInt64, _ isUncertain: Bool
  ) {
    let state = threads[index]
    record.thread_id = state.pointee.number
    record.start_ns = state.pointee.startNanoseconds
    if record.start_ns < scope.attachedNanoseconds {
      record.start_ns = scope.attachedNanoseconds
      record.flags |= TraceEventFlags.inFlightAtAttach.rawValue
      counters.inFlightAtAttach += 1
    }
    record.latency_ns = isUncertain ? UInt64(bitPattern: TraceEvent.unknownLatency) : end - record.start_ns
    if record.description == 0, state.pointee.description >= 0 {
      let description = open.descriptions[state.pointee.description]
      record.description = description.pointee.number
      if description.pointee.flags != UInt32.max { record.flags |= description.pointee.flags }
    }
    if state.pointee.otherDescription >= 0 { record.other_description = open.descriptions[state.pointee.otherDescription].pointee.number }
    if record.description == 0 { counters.requestsWithoutFile += 1 }
    callCounts[Int(kind.rawValue)] &+= 1
  }

  /// The begin was before the recording, or the kernel dropped it.
  @inline(never)
  private mutating func endWithoutBegin(
    _ kind: SyscallKind, _ index: Int32, _ time: UInt64, _ result: Int64, _ records: inout RecordBuffer
  ) {
    let state = threads[index]
    let wasSeen = state.pointee.isSeen
    state.pointee.isSeen = true
    if state.pointee.call != Self.noCall {
      counters.callsWithoutEnd += 1
      letGo(index)
    }
    guard time >= scope.attachedNanoseconds, let operation = kind.operation else { return }
    var record = trace_record()
    record.operation = operation.rawValue
    record.offset = TraceEvent.unknownOffset
    record.size = TraceEvent.unknownSize
    record.result = result
    record.thread_id = state.pointee.number
    if wasSeen {
      counters.callsWithoutBegin += 1
      record.start_ns = time
      record.latency_ns = UInt64(bitPattern: TraceEvent.unknownLatency)
    } else {
      counters.inFlightAtAttach += 1
      record.flags = TraceEventFlags.inFlightAtAttach.rawValue
      record.start_ns = scope.attachedNanoseconds
      record.latency_ns = time - scope.attachedNanoseconds
    }
    count(kind, state.pointee.process, result)
    counters.requestsWithoutFile += 1
    callCounts[Int(kind.rawValue)] &+= 1
    records.append(record, process: processes[Int(state.pointee.process)].number)
  }

  // MARK: What calls did

  @inline(__always)
  private mutating func finish(_ kind: SyscallKind, _ index: Int32, _ time: UInt64, _ result: Int64, _ record: inout trace_record) {
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
  private mutating func count(_ kind: SyscallKind, _ process: Int32, _ result: Int64) {
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
  private mutating func finishTransfer(
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
  private static func requestFlags(_ argument: UInt64) -> UInt32 {
    var flags: UInt32 = 0
    if argument & 1 != 0 { flags |= TraceEventFlags.highPriority.rawValue }
    if argument & 2 != 0 { flags |= TraceEventFlags.requestDataSync.rawValue }
    if argument & 4 != 0 { flags |= TraceEventFlags.requestSync.rawValue }
    if argument & 8 != 0 { flags |= TraceEventFlags.noWait.rawValue }
    return flags
  }

  /// A transfer at the description's position.
  @inline(__always)
  private mutating func advance(_ description: Int32, _ time: UInt64, _ result: Int64, _ record: inout trace_record) {
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
  private mutating func append(
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
  private mutating func finishOther(
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
    case .ioSubmit:
      record.flags |= TraceEventFlags.asynchronous.rawValue
      if result > 0 { counters.aioSubmitted += UInt64(result) }
    case .ioGetevents, .ioPgetevents:
      record.flags |= TraceEventFlags.asynchronous.rawValue
      if result > 0 { counters.aioCompleted += UInt64(result) }
    default: break
    }
  }

  private mutating func opened(_ index: Int32, _ time: UInt64, _ result: Int64, flags: UInt32, _ record: inout trace_record) {
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

  private static func openFlags(_ flags: UInt32) -> UInt32 {
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

  private mutating func duplicated(_ kind: SyscallKind, _ index: Int32, _ time: UInt64, _ result: Int64, _ record: inout trace_record) {
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

  private mutating func accepted(_ index: Int32, _ time: UInt64, _ result: Int64) {
    guard result >= 0, result < Int64(OpenFiles.descriptorLimit) else { return }
    // The connection is looked up when it is used.
    open.set(processes[Int(threads[index].pointee.process)].table, Int32(result), -1, closeOnExec: false, at: time)
  }

  private mutating func sought(
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
  private mutating func finishCopy(
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

  // MARK: Tasks

  private mutating func newTask(_ parentNumber: Int32, _ event: RingPage.Event) {
    let child = Int32(truncatingIfNeeded: events.newTask.child.value(event.bytes, event.length))
    let flags = events.newTask.flags.value(event.bytes, event.length)
    let parent = thread(parentNumber)
    guard parent >= 0, child > 0, Int(child) < threadLimit else { return }
    // CLONE_THREAD and CLONE_FILES of sched.h.
    let (isThread, sharesFiles) = (flags & 0x10000 != 0, flags & 0x400 != 0)
    let parentProcess = threads[parent].pointee.process
    let known = threadOfNumber[Int(child)]
    // The snapshot had it already.
    if known >= 0, event.nanoseconds < scope.attachedNanoseconds { return }
    if known >= 0 { endThread(known) }
    var process = parentProcess
    if !isThread {
      let table: Int32
      if sharesFiles {
        table = processes[Int(parentProcess)].table
        open.shareTable(table)
      } else {
        table = open.copyTable(processes[Int(parentProcess)].table)
      }
      process = makeProcess(child, parent: parentProcess, table: table)
    }
    threadOfNumber[Int(child)] = -1
    let index = makeThread(child, process)
    if index >= 0 { threads[index].pointee.isSeen = true }
  }

  private mutating func execute(_ event: RingPage.Event) {
    let number = Int32(truncatingIfNeeded: events.execute.thread.value(event.bytes, event.length))
    let old = Int32(truncatingIfNeeded: events.execute.old.value(event.bytes, event.length))
    let index = thread(number)
    guard index >= 0 else { return }
    let process = Int(threads[index].pointee.process)
    processes[process].table = open.execute(processes[process].table)
    // A thread that executes takes over its leader's number.
    if old != number, old > 0, Int(old) < threadLimit, threadOfNumber[Int(old)] >= 0 { endThread(threadOfNumber[Int(old)]) }
  }

  private mutating func endTask(_ number: Int32) {
    guard number > 0, Int(number) < threadLimit, threadOfNumber[Int(number)] >= 0 else { return }
    let index = threadOfNumber[Int(number)]
    if threads[index].pointee.call != Self.noCall { counters.endedInCall += 1 }
    endThread(index)
  }

  private mutating func endThread(_ index: Int32) {
    let process = Int(threads[index].pointee.process)
    let number = threads[index].pointee.number
    if threads[index].pointee.call != Self.noCall { letGo(index) }
    threadOfNumber[Int(number)] = -1
    threads[index].pointee.number = 0
    let isWorker = threads[index].pointee.isWorker
    threads.remove(index)
    if isWorker { return }
    processes[process].threads -= 1
    guard processes[process].threads == 0, processes[process].isAlive else { return }
    processes[process].isAlive = false
    livingProcesses -= 1
    open.releaseTable(processes[process].table)
    endThreads(of: Int32(process))
  }

  /// The threads of a process that nothing announced the end of.
  private mutating func endThreads(of process: Int32) {
    for index in 0..<Int32(threadCount) where threads[index].pointee.number > 0 && threads[index].pointee.process == process {
      endThread(index)
    }
  }

  /// Ends processes whose end was not seen, since the kernel dropped it: they were missing at the look before this one too.
  private mutating func endMissingProcesses(_ bound: UInt64) {
    guard bound != UInt64.max, bound > nextLook else { return }
    nextLook = bound &+ 1_000_000_000
    for i in processes.indices where processes[i].isAlive {
      guard kill(processes[i].number, 0) != 0, errno == ESRCH else { continue }
      if processes[i].isMissing { endThreads(of: Int32(i)) }
      processes[i].isMissing = true
    }
  }

  // MARK: io_uring

  private mutating func uringSubmit(_ number: Int32, _ event: RingPage.Event) {
    guard let fields = events.submit, number > 0, Int(number) < threadLimit else { return }
    var index = threadOfNumber[Int(number)]
    if index == Self.foreign { return }
    if index < 0 {
      // These events come from every process of the machine.
      let group = ProcessSnapshot.threadGroup(of: number)
      let isOurs = scope.takesAll ? group != getpid() : group.map { processOfNumber[$0] != nil } ?? false
      guard isOurs else {
        threadOfNumber[Int(number)] = Self.foreign
        return
      }
      index = group.flatMap { processOfNumber[$0] }.map { makeThread(number, $0, isWorker: true) } ?? discover(number)
    }
    guard index >= 0 else { return }
    let opcode = UInt8(truncatingIfNeeded: fields.opcode.value(event.bytes, event.length))
    if event.nanoseconds >= scope.attachedNanoseconds { uringCounts[Int(opcode)] &+= 1 }
    let request = UInt64(bitPattern: fields.request.value(event.bytes, event.length))
    forget(request)
    requests[request] = UringRequest(
      startNanoseconds: event.nanoseconds, process: threads[index].pointee.process, thread: number, description: -1, opcode: opcode)
  }

  private mutating func forget(_ request: UInt64) {
    if let old = requests.removeValue(forKey: request), old.description >= 0 { open.release(old.description) }
  }

  private mutating func uringFile(_ event: RingPage.Event) {
    guard let fields = events.file else { return }
    let request = UInt64(bitPattern: fields.request.value(event.bytes, event.length))
    guard let pending = requests[request], pending.description < 0 else { return }
    let descriptor = Int32(truncatingIfNeeded: fields.descriptor.value(event.bytes, event.length))
    let description = describe(pending.process, descriptor, event.nanoseconds)
    guard description >= 0 else { return }
    open.retain(description)
    requests[request]?.description = description
  }

  private mutating func uringComplete(_ event: RingPage.Event, _ records: inout RecordBuffer) {
    guard let fields = events.complete else { return }
    let key = UInt64(bitPattern: fields.request.value(event.bytes, event.length))
    guard let request = requests[key] else { return }
    if event.nanoseconds >= scope.attachedNanoseconds {
      counters.uringCompletions += 1
      if let operation = UringOperation.operation(request.opcode) {
        appendUring(request, operation, event.nanoseconds, fields.result.value(event.bytes, event.length), &records)
      }
    }
    // IORING_CQE_F_MORE: further completions of the same request follow.
    if fields.flags.value(event.bytes, event.length) & 2 == 0 { forget(key) }
  }

  private mutating func appendUring(
    _ request: UringRequest, _ operation: TraceOperation, _ time: UInt64, _ result: Int64, _ records: inout RecordBuffer
  ) {
    var record = trace_record()
    record.operation = operation.rawValue
    record.offset = TraceEvent.unknownOffset
    record.size = result >= 0 && (operation == .read || operation == .write) ? UInt64(result) : TraceEvent.unknownSize
    record.result = result
    record.thread_id = request.thread
    record.start_ns = max(request.startNanoseconds, scope.attachedNanoseconds)
    record.flags = TraceEventFlags.asynchronous.rawValue
    if request.startNanoseconds < scope.attachedNanoseconds { record.flags |= TraceEventFlags.inFlightAtAttach.rawValue }
    record.latency_ns = time - record.start_ns
    if request.description >= 0 {
      let description = open.descriptions[request.description]
      record.description = description.pointee.number
      if description.pointee.flags != UInt32.max { record.flags |= description.pointee.flags }
    } else {
      counters.requestsWithoutFile += 1
    }
    records.append(record, process: processes[Int(request.process)].number)
  }

  // MARK: Rounds

  /// After the events before `bound`: names are looked up, and what may be written is said.
  /// - Returns: the start (CLOCK_MONOTONIC) before which no further request begins, but for calls that wait long.
  mutating func settle(before bound: UInt64, into records: inout RecordBuffer) -> UInt64 {
    open.resolve(before: bound, into: &records)
    endMissingProcesses(bound)
    var earliest = min(bound, open.earliestOpen)
    for index in 0..<Int32(threadCount) {
      let state = threads[index]
      guard state.pointee.number > 0, state.pointee.call != Self.noCall, state.pointee.startNanoseconds < earliest else { continue }
      let waits: UInt64 = isQuick(state.pointee.description) ? 2_000_000_000 : 50_000_000
      if bound == UInt64.max || state.pointee.startNanoseconds &+ waits > bound { earliest = state.pointee.startNanoseconds }
    }
    return earliest
  }

  /// Calls on it don't wait for somebody else, as those on sockets and pipes do.
  private mutating func isQuick(_ description: Int32) -> Bool {
    guard description >= 0 else { return false }
    let kind = open.descriptions[description].pointee.kind
    return kind == .regular || kind == .blockDevice || kind == .unknown
  }

  /// What was counted; at the end.
  /// - Parameter transferred: rchar and wchar of a process since it was attached to, nil when it is gone.
  mutating func finish(_ kernel: (_ process: Int32) -> (read: UInt64, written: UInt64)?) -> SyscallCounters {
    for index in 0..<Int32(threadCount) where threads[index].pointee.number > 0 && threads[index].pointee.call != Self.noCall {
      counters.inFlightAtEnd += 1
    }
    for kind in SyscallKind.allCases where callCounts[Int(kind.rawValue)] > 0 { counters.calls[kind.name] = callCounts[Int(kind.rawValue)] }
    for opcode in 0..<256 where uringCounts[opcode] > 0 {
      counters.uringRequests[UringOperation.name(UInt8(opcode)), default: 0] += uringCounts[opcode]
    }
    counters.namelessOpens = open.namelessCount
    sumCoverage(kernel)
    return counters
  }

  /// The kernel adds what a process moved to its parent's count when the parent waits for it: a dead one is covered when its
  /// parent is recorded and lives.
  private mutating func sumCoverage(_ kernel: (Int32) -> (read: UInt64, written: UInt64)?) {
    for i in processes.indices {
      var holder = i
      while !processes[holder].isAlive, processes[holder].parent >= 0 { holder = Int(processes[holder].parent) }
      guard processes[holder].isAlive else { continue }
      counters.countedReadBytes += processes[i].readBytes
      counters.countedWrittenBytes += processes[i].writtenBytes
      guard processes[i].isAlive, let moved = kernel(processes[i].number) else { continue }
      counters.kernelReadBytes = (counters.kernelReadBytes ?? 0) + moved.read
      counters.kernelWrittenBytes = (counters.kernelWrittenBytes ?? 0) + moved.written
    }
  }
}
