// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
import CTrace

/// The programs that run in the kernel while calls are recorded by BPF, of the machine's instructions (BPFAssembler).
///
/// They call helpers of the kernel (which thread, which CPU, what time, what stands in the program's memory), and read through types
/// that the kernel describes (KernelTypes), which the kernel's verifier checks. They neither wait nor lock: a record goes into the
/// ring of the CPU, where nothing else can come between, since tracepoints of system calls and of io_uring's submissions run with
/// preemption off and never in interrupts.
struct CallPrograms {
  /// Numbers and places that differ from kernel to kernel.
  struct Kernel {
    /// Of struct pt_regs, struct task_struct and struct io_kiocb; the last is 0 where there is none.
    var registers: UInt32
    var task: UInt32
    var request: UInt32 = 0
    /// Of bpf_rdonly_cast, which says of an address what it points to.
    var cast: UInt32
    /// In task_struct.
    var pidOffset: Int16
    var statusOffset: Int16
    /// In io_kiocb.
    var opcodeOffset: Int16 = 0
    /// In io_rw, with which io_kiocb begins.
    var positionOffset: Int16 = 0
    var lengthOffset: Int16 = 0

    /// - Throws: when this kernel lacks something that the programs need.
    init(_ types: KernelTypes) throws(TraceError) {
      registers = try types.number(.structure, "pt_regs")
      task = try types.number(.structure, "task_struct")
      cast = try types.number(.function, "bpf_rdonly_cast")
      pidOffset = try Self.place(["pid"], task, types)
      statusOffset = try Self.place(["thread_info", "status"], task, types)
      guard let requestType = try? types.number(.structure, "io_kiocb"), let transfer = try? types.number(.structure, "io_rw") else {
        return
      }
      opcodeOffset = try Self.place(["opcode"], requestType, types)
      positionOffset = try Self.place(["kiocb", "ki_pos"], transfer, types)
      lengthOffset = try Self.place(["len"], transfer, types)
      request = requestType
    }

    private static func place(_ members: [String], _ structure: UInt32, _ types: KernelTypes) throws(TraceError) -> Int16 {
      let offset = try types.offset(of: members, in: structure)
      guard let place = Int16(exactly: offset) else {
        throw TraceError(
          .unsupported, "this kernel's '\(members.joined(separator: "."))' is \(offset) bytes away, too far for an instruction")
      }
      return place
    }
  }
  let kernel: Kernel
  let layout: CallRings.Layout
  let memoryMap: Int32
  let threadsMap: Int32
  let memoryCalls: MemoryCalls

  /// Types of the calls that name something in the program's memory which is read too.
  struct MemoryCalls {
    /// In the table of calls: the type is of one of these.
    static let mark: UInt16 = 0x8000
    /// Ends of calls that opened a file, whose path is the first or the second argument.
    var firstPath: [UInt16] = []
    var secondPath: [UInt16] = []
    /// The begin of io_submit.
    var submit: UInt16 = 0
    /// Ends of io_getevents and io_pgetevents.
    var completions: [UInt16] = []
  }

  /// Places in struct pt_regs (asm/ptrace.h); of the arguments in their order, rdi to r9.
  enum Registers {
    static let arguments: [Int16] = [112, 104, 96, 56, 72, 64]
    static let result: Int16 = 80
    static let callNumber: Int16 = 120
  }
  /// Places in trace_call_record.
  enum Record {
    static let type: Int16 = 0
    static let following: Int16 = 2
    static let thread: Int16 = 4
    static let time: Int16 = 8
    static let values: Int16 = 16
  }
  /// Places in trace_call_ring_control.
  enum Control {
    static let written: Int16 = 0
    static let lost: Int16 = 8
    static let lostBefore: Int16 = 16
    static let taken: Int16 = 64
  }
  /// Places in trace_call_shared.
  private enum Shared {
    static let lostElsewhere: Int16 = 0
    static let calls32Bit: Int16 = 8
  }
  /// Where a program goes when it stores nothing: in any case, where its CPU's ring is full, where its CPU has none, where a 32-bit
  /// program calls.
  struct Exits {
    let out: BPFAssembler.Label
    let full: BPFAssembler.Label
    let elsewhere: BPFAssembler.Label
    let compatible: BPFAssembler.Label

    init(_ code: inout BPFAssembler) {
      (out, full, elsewhere, compatible) = (code.makeLabel(), code.makeLabel(), code.makeLabel(), code.makeLabel())
    }
  }
  /// Of thread_info.status: the call is one of a 32-bit program, whose numbers are others (TS_COMPAT of asm/thread_info.h).
  private static let isCompatible: Int32 = 2

  // MARK: Programs

  /// For `sys_enter`: (registers, number).
  var begin: [UInt64] {
    var code = BPFAssembler()
    let (exits, memory) = (Exits(&code), code.makeLabel())
    code.load(.double, .r7, from: .r1, 8)
    cast(&code, argument: 0, to: kernel.registers)
    chooseCall(&code, shift: 0, exits)
    chooseThread(&code, exits)
    takeTime(&code)
    code.jump(memory, if: .r7, .anySet, Int32(MemoryCalls.mark))
    reserve(&code, exits)
    copyArguments(&code)
    publish(&code, exits)
    code.place(memory)
    submit(&code, exits)
    finish(&code, exits, counts32BitCalls: true)
    return code.program
  }

  /// For `sys_exit`: (registers, result).
  var end: [UInt64] {
    var code = BPFAssembler()
    let (exits, memory, plain) = (Exits(&code), code.makeLabel(), code.makeLabel())
    cast(&code, argument: 0, to: kernel.registers)
    code.load(.double, .r7, from: .r6, Registers.callNumber)
    chooseCall(&code, shift: 16, exits)
    chooseThread(&code, exits)
    takeTime(&code)
    code.jump(memory, if: .r7, .anySet, Int32(MemoryCalls.mark))
    code.place(plain)
    reserve(&code, exits)
    copy(&code, from: Registers.result, toValue: 0)
    publish(&code, exits)
    code.place(memory)
    opened(&code, exits, plain)
    completed(&code, exits, plain)
    finish(&code, exits)
    return code.program
  }

  /// For `task_newtask`: (task, flags). The new one is recorded when its maker is.
  var newTask: [UInt64] {
    var code = BPFAssembler()
    cast(&code, argument: 0, to: kernel.task)
    code.call(.currentTask)
    code.load(.word, .r1, from: .r0, kernel.pidOffset)
    placeOfThread(&code, .r1, into: .r2)
    code.load(.byte, .r7, from: .r2, 0)
    code.load(.word, .r1, from: .r6, kernel.pidOffset)
    placeOfThread(&code, .r1, into: .r2)
    code.store(.byte, to: .r2, 0, .r7)
    code.finish()
    return code.program
  }

  /// For `io_uring_submit_req`: (request). Stores the request's address, operation, position and length.
  func submit(type: UInt16) -> [UInt64] {
    var code = BPFAssembler()
    let exits = Exits(&code)
    cast(&code, argument: 0, to: kernel.request)
    code.apply(.move, .r7, Int32(type))
    code.call(.currentTask)
    code.load(.word, .r8, from: .r0, kernel.pidOffset)
    placeOfThread(&code, .r8, into: .r2)
    code.load(.byte, .r1, from: .r2, 0)
    code.jump(exits.out, if: .r1, .equal, 0)
    takeTime(&code)
    reserve(&code, exits)
    code.store(.double, to: .r3, Record.values, .r6)
    code.load(.byte, .r0, from: .r6, kernel.opcodeOffset)
    code.store(.double, to: .r3, Record.values + 8, .r0)
    copy(&code, from: kernel.positionOffset, toValue: 2)
    code.load(.word, .r0, from: .r6, kernel.lengthOffset)
    code.store(.double, to: .r3, Record.values + 24, .r0)
    publish(&code, exits)
    finish(&code, exits)
    return code.program
  }

  // MARK: Their parts
  //
  // r6 is what is read from, r7 the record's type, r8 the thread, r9 the time; after `reserve` r3 is the record, r1 the CPU's control
  // and r4 what its count of records will be.

  /// Argument `argument` of the tracepoint, as an address of a `type`, into r6.
  private func cast(_ code: inout BPFAssembler, argument: Int16, to type: UInt32) {
    code.load(.double, .r1, from: .r1, 8 * argument)
    code.apply(.move, .r2, Int32(bitPattern: type))
    code.call(kernelFunction: kernel.cast)
    code.apply(.move, .r6, .r0)
  }

  /// From the call's number in r7 to the type of its record; leaves for calls that are not recorded.
  private func chooseCall(_ code: inout BPFAssembler, shift: Int32, _ exits: Exits) {
    code.jump(exits.out, if: .r7, .greater, Int32(CallRings.Layout.callLimit - 1))
    code.apply(.shiftLeft, .r7, 2)
    code.address(.r1, ofMap: memoryMap, UInt32(layout.callsOffset))
    code.apply(.add, .r1, .r7)
    code.load(.word, .r7, from: .r1, 0)
    code.jump(exits.out, if: .r7, .equal, 0)
    if shift > 0 { code.apply(.shiftRight, .r7, shift) }
  }

  /// The thread into r8; leaves for those that are not recorded, and for calls of 32-bit programs.
  private func chooseThread(_ code: inout BPFAssembler, _ exits: Exits) {
    code.call(.currentTask)
    code.load(.word, .r8, from: .r0, kernel.pidOffset)
    placeOfThread(&code, .r8, into: .r2)
    code.load(.byte, .r1, from: .r2, 0)
    code.jump(exits.out, if: .r1, .equal, 0)
    code.load(.word, .r1, from: .r0, kernel.statusOffset)
    code.jump(exits.compatible, if: .r1, .anySet, Self.isCompatible)
  }

  private func placeOfThread(_ code: inout BPFAssembler, _ thread: BPFAssembler.Register, into target: BPFAssembler.Register) {
    code.apply(.move, .r1, thread)
    code.apply(.and, .r1, Int32(CallRings.Layout.threadLimit - 1))
    code.address(target, ofMap: threadsMap, 0)
    code.apply(.add, target, .r1)
  }

  private func takeTime(_ code: inout BPFAssembler) {
    code.call(.nanoseconds)
    code.apply(.move, .r9, .r0)
  }

  /// Finds room for a record in this CPU's ring and writes what every record has; jumps to `full` when there is none.
  private func reserve(_ code: inout BPFAssembler, _ exits: Exits) {
    findControl(&code, exits)
    code.load(.double, .r4, from: .r1, Control.written)
    code.load(.double, .r3, from: .r1, Control.taken)
    code.apply(.move, .r2, .r4)
    code.apply(.subtract, .r2, .r3)
    code.jump(exits.full, if: .r2, .greater, Int32(layout.records - 1))
    code.apply(.shiftLeft, .r0, Int32(layout.ringBytes.trailingZeroBitCount))
    code.apply(.move, .r2, .r4)
    code.apply(.and, .r2, Int32(layout.records - 1))
    code.apply(.shiftLeft, .r2, Int32(CallRings.Layout.recordBytes.trailingZeroBitCount))
    code.address(.r3, ofMap: memoryMap, UInt32(layout.ringsOffset))
    code.apply(.add, .r3, .r0)
    code.apply(.add, .r3, .r2)
    code.apply(.add, .r4, 1)
    writeHead(&code)
    // Nothing follows.
    code.apply(.move, .r0, 0)
    code.store(.half, to: .r3, Record.following, .r0)
  }

  /// This CPU's number into r0, and the address of its control into r1. Uses r2.
  func findControl(_ code: inout BPFAssembler, _ exits: Exits) {
    code.call(.processor)
    code.jump(exits.elsewhere, if: .r0, .greater, Int32(layout.processors - 1))
    code.apply(.move, .r2, .r0)
    code.apply(.shiftLeft, .r2, Int32(CallRings.Layout.controlBytes.trailingZeroBitCount))
    code.address(.r1, ofMap: memoryMap, 0)
    code.apply(.add, .r1, .r2)
  }

  /// What every record begins with.
  func writeHead(_ code: inout BPFAssembler) {
    code.store(.half, to: .r3, Record.type, .r7)
    code.store(.word, to: .r3, Record.thread, .r8)
    code.store(.double, to: .r3, Record.time, .r9)
  }

  func copyArguments(_ code: inout BPFAssembler) {
    for (i, place) in Registers.arguments.enumerated() { copy(&code, from: place, toValue: i) }
  }

  func copy(_ code: inout BPFAssembler, from place: Int16, toValue index: Int) {
    code.load(.double, .r0, from: .r6, place)
    code.store(.double, to: .r3, Record.values + 8 * Int16(index), .r0)
  }

  /// The count is stored behind the record, in which order x86 lets another CPU see them.
  func publish(_ code: inout BPFAssembler, _ exits: Exits) {
    code.store(.double, to: .r1, Control.written, .r4)
    code.jump(exits.out)
  }

  /// The ways out of a program.
  private func finish(_ code: inout BPFAssembler, _ exits: Exits, counts32BitCalls: Bool = false) {
    code.place(exits.full)
    code.load(.double, .r2, from: .r1, Control.lost)
    code.apply(.add, .r2, 1)
    code.store(.double, to: .r1, Control.lost, .r2)
    // The next record is the first behind the loss, unless the recorder has still an earlier one to pass.
    code.load(.double, .r2, from: .r1, Control.lostBefore)
    code.load(.double, .r3, from: .r1, Control.taken)
    code.jump(exits.out, if: .r2, .greater, .r3)
    code.load(.double, .r2, from: .r1, Control.written)
    code.apply(.add, .r2, 1)
    code.store(.double, to: .r1, Control.lostBefore, .r2)
    code.jump(exits.out)
    code.place(exits.elsewhere)
    count(&code, Shared.lostElsewhere)
    code.jump(exits.out)
    code.place(exits.compatible)
    if counts32BitCalls { count(&code, Shared.calls32Bit) }
    code.place(exits.out)
    code.finish()
  }

  private func count(_ code: inout BPFAssembler, _ place: Int16) {
    code.address(.r1, ofMap: memoryMap, UInt32(layout.sharedOffset))
    code.apply(.move, .r2, 1)
    code.addAtomically(to: .r1, place, .r2)
  }
}
