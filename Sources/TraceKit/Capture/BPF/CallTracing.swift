import CTrace
import Glibc

/// System calls, new tasks and io_uring requests as programs in the kernel record them, for as long as this lives.
///
/// The kernel takes the programs away when the process ends, however it ends.
final class CallTracing {
  let rings: CallRings
  /// Requests of io_uring are recorded, with their positions.
  private(set) var hasUringRequests = false
  private var programs: [Int32] = []
  private var links: [Int32] = []

  /// What a record's type is; `submit` is 0 where no requests are wanted.
  struct Types {
    /// Types of calls that memory is read for carry MemoryCalls.mark.
    var calls: [(number: Int, begin: UInt16, end: UInt16)]
    var memoryCalls: CallPrograms.MemoryCalls
    var submit: UInt16
  }

  /// Loads the programs and attaches them. Nothing is recorded before threads are named.
  /// - Parameter bufferBytes: memory of each CPU's ring, within the bounds of TracingSession.
  /// - Throws: when this kernel or this user can't.
  init(_ types: Types, bufferBytes: Int) throws(TraceError) {
    #if arch(x86_64)
      let kernel = try CallPrograms.Kernel(try KernelTypes())
      let processors = Self.processorCount
      let bytes = TracingSession.bounded(bufferBytes, processors: processors)
      rings = try CallRings(.init(processors: processors, bytesPerProcessor: bytes))
      for call in types.calls { rings.record(call: call.number, begin: call.begin, end: call.end) }
      let written = CallPrograms(
        kernel: kernel, layout: rings.layout, memoryMap: rings.memoryMap, threadsMap: rings.threadsMap, memoryCalls: types.memoryCalls)
      try attach("task_newtask", written.newTask)
      try attach("sys_enter", written.begin)
      try attach("sys_exit", written.end)
      if types.submit != 0, kernel.request != 0 {
        try attach("io_uring_submit_req", written.submit(type: types.submit))
        hasUringRequests = true
      }
    #else
      throw TraceError(.unsupported, "recording by BPF is written for x86-64 only")
    #endif
  }

  deinit {
    detach()
    for program in programs { close(program) }
  }

  /// Ends recording; what is in the rings stays there.
  func detach() {
    for link in links { close(link) }
    links.removeAll()
  }

  /// CPUs that there are, counted to the last; events on those that come later are counted as lost.
  private static var processorCount: Int {
    let online = SmallFile.line("/sys/devices/system/cpu/online").flatMap { CPUList.parse($0) }
    return (online?.max()).map { $0 + 1 } ?? max(1, sysconf(Int32(_SC_NPROCESSORS_CONF)))
  }

  private func attach(_ tracepoint: String, _ instructions: [UInt64]) throws(TraceError) {
    var program = ctrace_bpf_load(instructions, UInt32(instructions.count), nil, 0)
    if program < 0, program != -EPERM {
      // Once more, for the verifier's reason: its last line but the counts.
      var log = [CChar](repeating: 0, count: 1 << 16)
      let code = -program
      program = ctrace_bpf_load(instructions, UInt32(instructions.count), &log, UInt32(log.count))
      if program < 0 { throw Self.refused(tracepoint, code, log) }
    }
    guard program >= 0 else { throw Self.refused(tracepoint, -program, []) }
    programs.append(program)
    let link = ctrace_bpf_attach(tracepoint, program)
    guard link >= 0 else { throw TraceError(path: "bpf(2)", "attach a program to \(tracepoint)", errno: -link) }
    links.append(link)
  }

  private static func refused(_ tracepoint: String, _ code: Int32, _ log: [CChar]) -> TraceError {
    let text = String(decoding: log.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let said = text.split(separator: "\n").last { !$0.hasPrefix("processed ") && !$0.hasPrefix("verification time") }
    return TraceError(
      path: "bpf(2)", "load the program for \(tracepoint)", errno: code,
      hint: said.map { "the kernel's verifier says: \(PrintableText.escaped(String($0.prefix(200))))" } ?? "")
  }
}
