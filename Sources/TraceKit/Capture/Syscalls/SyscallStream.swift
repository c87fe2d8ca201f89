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
    /// As submitted; unknown where the submission does not tell.
    var offsetBytes = TraceEvent.unknownOffset
    var sizeBytes = TraceEvent.unknownSize
  }
  /// The folder that a process works in since some time (CLOCK_MONOTONIC).
  struct Folder {
    var path: [UInt8]
    var nanoseconds: UInt64
  }
  static let noCall: UInt8 = 255
  static let foreign: Int32 = -2
  /// Nanoseconds for which a request in flight holds what began after it.
  private static let requestHold: UInt64 = 2_000_000_000
  let events: SyscallEvents
  let scope: Scope
  var threads = Slab<Thread>()
  var threadCount = 0
  /// By thread number: −1 none, −2 not ours, else where it stands in `threads`.
  let threadOfNumber: UnsafeMutablePointer<Int32>
  let threadLimit: Int
  var processes: [Process] = []
  var processOfNumber: [Int32: Int32] = [:]
  var open = OpenFiles()
  var requests: [UInt64: UringRequest] = [:]
  /// Folders that processes work in, by index, where paths are read.
  var folders: [Int32: Folder] = [:]
  /// Some process has another view of the filesystem than the recorder.
  var seesOtherFiles = false
  var aioRequests: [AioKey: AioRequest] = [:]
  /// Addresses of the requests that a thread's io_submit under way names.
  var aioSubmissions: [Int32: [UInt64]] = [:]
  var lossEpoch: UInt32 = 0
  /// When processes are looked for next (CLOCK_MONOTONIC).
  var nextLook: UInt64 = 0
  var callCounts: [UInt64]
  var uringCounts = [UInt64](repeating: 0, count: 256)
  var counters = SyscallCounters()
  /// Living processes among those that are recorded.
  var livingProcesses = 0

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
    if events.readsMemory {
      folders[process] = snapshot.folder.map { Folder(path: $0.path, nanoseconds: $0.nanoseconds) }
      seesOtherFiles = seesOtherFiles || !snapshot.seesOwnFiles
    }
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

  mutating func makeProcess(_ number: Int32, parent: Int32, table: Int32) -> Int32 {
    processes.append(Process(number: number, parent: parent, table: table, threads: 0))
    let index = Int32(processes.count - 1)
    processOfNumber[number] = index
    livingProcesses += 1
    counters.processes += 1
    return index
  }

  mutating func makeThread(_ number: Int32, _ process: Int32, isWorker: Bool = false) -> Int32 {
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
  mutating func discover(_ number: Int32) -> Int32 {
    guard number > 0, Int(number) < threadLimit else { return -1 }
    let group = ProcessSnapshot.threadGroup(of: number) ?? number
    // The recorder itself is never recorded.
    guard group != getpid() else { return -1 }
    let process =
      processOfNumber[group].flatMap { processes[Int($0)].isAlive ? $0 : nil } ?? makeProcess(group, parent: -1, table: open.makeTable())
    return makeThread(number, process)
  }

  // MARK: Events

  /// Takes one event in.
  @inline(__always)
  mutating func accept(_ event: RingPage.Event, isBehindLoss: Bool, into records: inout RecordBuffer) {
    if isBehindLoss { noteLoss() }
    let (entry, number) = events.look(event)
    switch entry.role {
    case .enter: enter(entry, number, event, &records)
    case .exit: exit(entry, number, event, &records)
    case .none: break
    default: acceptRare(entry, number, event, &records)
    }
  }

  /// What was lost may have changed anything.
  @inline(never)
  private mutating func noteLoss() {
    lossEpoch &+= 1
    folders.removeAll()
  }

  @inline(never)
  mutating func acceptRare(
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
  mutating func thread(_ number: Int32) -> Int32 {
    guard number > 0, Int(number) < threadLimit else { return -1 }
    let known = threadOfNumber[Int(number)]
    return known >= 0 ? known : discover(number)
  }

  // MARK: Calls

  mutating func enter(
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
    if kind.rawValue >= SyscallKind.close.rawValue { enterOther(kind, index, event, &records) }
  }

  /// What a call changes or names beyond its first descriptor.
  mutating func enterOther(_ kind: SyscallKind, _ index: Int32, _ event: RingPage.Event, _ records: inout RecordBuffer) {
    let time = event.nanoseconds
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
    case .ioSubmit: submitAio(index, event, &records)
    default: break
    }
  }

  mutating func closeRange(_ table: Int32, _ arguments: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64), _ time: UInt64) {
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
  mutating func describe(_ process: Int32, _ descriptor: Int32, _ time: UInt64) -> Int32 {
    let known = open.find(processes[Int(process)].table, descriptor)
    return known >= 0 ? known : lookUp(process, descriptor, time)
  }

  @inline(never)
  mutating func lookUp(_ process: Int32, _ descriptor: Int32, _ time: UInt64) -> Int32 {
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
  mutating func hold(_ thread: Int32, _ description: Int32) {
    threads[thread].pointee.description = description
    if description >= 0 { open.retain(description) }
  }

  mutating func holdOther(_ thread: Int32, _ description: Int32) {
    threads[thread].pointee.otherDescription = description
    if description >= 0 { open.retain(description) }
  }

  @inline(__always)
  mutating func usePosition(_ description: Int32) {
    let state = open.descriptions[description]
    state.pointee.positionUsers += 1
    if state.pointee.positionUsers > 1 { state.pointee.isOverlapped = true }
  }

  /// The thread's call is over, or never will be.
  @inline(__always)
  mutating func letGo(_ index: Int32) {
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

  mutating func exit(
    _ entry: SyscallEvents.Entry, _ number: Int32, _ event: RingPage.Event, _ records: inout RecordBuffer
  ) {
    let index = thread(number)
    guard index >= 0, Int(entry.offset) + 8 <= event.length, let kind = SyscallKind(rawValue: entry.kind) else { return }
    var result = event.bytes.loadUnaligned(fromByteOffset: Int(entry.offset), as: Int64.self)
    // Interrupted calls that the kernel begins again (ERESTARTSYS to ERESTART_RESTARTBLOCK): the program sees EINTR, or the next.
    if result <= -512, result >= -516 { result = -Int64(EINTR) }
    guard threads[index].pointee.call == entry.kind else {
      if kind.isAio { finishAio(kind, index, event, result, &records) }
      endWithoutBegin(kind, index, event.nanoseconds, result, &records)
      return
    }
    let isUncertain = threads[index].pointee.lossEpoch != lossEpoch
    if isUncertain { counters.uncertainCalls += 1 }
    var record = trace_record()
    record.offset = TraceEvent.unknownOffset
    record.size = TraceEvent.unknownSize
    record.result = result
    if kind.isAio {
      finishAio(kind, index, event, result, &records)
      // The requests are the events; the call that submits or fetches them is none.
      if events.readsMemory {
        if event.nanoseconds >= scope.attachedNanoseconds { callCounts[Int(kind.rawValue)] &+= 1 }
        letGo(index)
        return
      }
    }
    finish(kind, index, event.nanoseconds, result, &record)
    if event.length > SyscallEvents.recordBytes || kind == .chdir || kind == .fchdir { takeName(kind, index, event, result) }
    if let operation = kind.operation, event.nanoseconds >= scope.attachedNanoseconds {
      record.operation = operation.rawValue
      complete(&record, kind, index, event.nanoseconds, isUncertain)
      records.append(record, process: processes[Int(threads[index].pointee.process)].number)
    }
    letGo(index)
  }

  /// What every event of a call has.
  @inline(__always)
  mutating func complete(
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
  mutating func endWithoutBegin(
    _ kind: SyscallKind, _ index: Int32, _ time: UInt64, _ result: Int64, _ records: inout RecordBuffer
  ) {
    let state = threads[index]
    let wasSeen = state.pointee.isSeen
    state.pointee.isSeen = true
    if state.pointee.call != Self.noCall {
      counters.callsWithoutEnd += 1
      letGo(index)
    }
    guard time >= scope.attachedNanoseconds, let operation = kind.operation, !(kind.isAio && events.readsMemory) else { return }
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

  // MARK: Rounds

  /// After the events before `bound`: names are looked up, and what may be written is said.
  /// - Returns: the start (CLOCK_MONOTONIC) before which no further request begins, but for calls that wait long.
  mutating func settle(before bound: UInt64, into records: inout RecordBuffer) -> UInt64 {
    let (processes, seesOtherFiles) = (processes, seesOtherFiles)
    open.resolve(before: bound, into: &records) { process in
      // A process that is gone saw what its ancestors see, as a rule.
      var numbers: [Int32] = []
      var next = process
      while next >= 0 {
        numbers.append(processes[Int(next)].number)
        next = processes[Int(next)].parent
      }
      return GivenName.root(of: numbers, orOwn: !seesOtherFiles)
    }
    endMissingProcesses(bound)
    var earliest = min(bound, open.earliestOpen, earliestRequest(bound))
    for index in 0..<Int32(threadCount) {
      let state = threads[index]
      guard state.pointee.number > 0, state.pointee.call != Self.noCall, state.pointee.startNanoseconds < earliest else { continue }
      let waits: UInt64 = isQuick(state.pointee.description) ? 2_000_000_000 : 50_000_000
      if bound == UInt64.max || state.pointee.startNanoseconds &+ waits > bound { earliest = state.pointee.startNanoseconds }
    }
    return earliest
  }

  /// The earliest start of a request in flight; those that wait for long are not waited for.
  private func earliestRequest(_ bound: UInt64) -> UInt64 {
    var earliest = UInt64.max
    for request in aioRequests.values where request.startNanoseconds &+ Self.requestHold > bound {
      earliest = min(earliest, request.startNanoseconds)
    }
    for request in requests.values where request.startNanoseconds &+ Self.requestHold > bound {
      earliest = min(earliest, request.startNanoseconds)
    }
    return earliest
  }

  /// Calls on it don't wait for somebody else, as those on sockets and pipes do.
  mutating func isQuick(_ description: Int32) -> Bool {
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
  mutating func sumCoverage(_ kernel: (Int32) -> (read: UInt64, written: UInt64)?) {
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
