import CTrace
import Glibc

/// Processes and threads as they begin, become another program, and end.
extension SyscallStream {
  mutating func newTask(_ parentNumber: Int32, _ event: RingPage.Event) {
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
      if events.readsMemory { inheritFolder(process, from: parentProcess, at: event.nanoseconds) }
    }
    threadOfNumber[Int(child)] = -1
    let index = makeThread(child, process)
    if index >= 0 { threads[index].pointee.isSeen = true }
  }

  mutating func execute(_ event: RingPage.Event) {
    let number = Int32(truncatingIfNeeded: events.execute.thread.value(event.bytes, event.length))
    let old = Int32(truncatingIfNeeded: events.execute.old.value(event.bytes, event.length))
    let index = thread(number)
    guard index >= 0 else { return }
    let process = Int(threads[index].pointee.process)
    processes[process].table = open.execute(processes[process].table)
    // A thread that executes takes over its leader's number.
    if old != number, old > 0, Int(old) < threadLimit, threadOfNumber[Int(old)] >= 0 { endThread(threadOfNumber[Int(old)]) }
  }

  mutating func endTask(_ number: Int32) {
    guard number > 0, Int(number) < threadLimit, threadOfNumber[Int(number)] >= 0 else { return }
    let index = threadOfNumber[Int(number)]
    if threads[index].pointee.call != Self.noCall { counters.endedInCall += 1 }
    endThread(index)
  }

  mutating func endThread(_ index: Int32) {
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
    if !aioRequests.isEmpty { dropAio(of: Int32(process)) }
    folders[Int32(process)] = nil
    open.releaseTable(processes[process].table)
    endThreads(of: Int32(process))
  }

  /// The threads of a process that nothing announced the end of.
  mutating func endThreads(of process: Int32) {
    for index in 0..<Int32(threadCount) where threads[index].pointee.number > 0 && threads[index].pointee.process == process {
      endThread(index)
    }
  }

  /// Ends processes whose end was not seen, since the kernel dropped it: they were missing at the look before this one too.
  mutating func endMissingProcesses(_ bound: UInt64) {
    guard bound != UInt64.max, bound > nextLook else { return }
    nextLook = bound &+ 1_000_000_000
    for i in processes.indices where processes[i].isAlive {
      guard kill(processes[i].number, 0) != 0, errno == ESRCH else { continue }
      if processes[i].isMissing { endThreads(of: Int32(i)) }
      processes[i].isMissing = true
    }
  }
}
