// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
import CTrace

/// What is read from the memory of the recorded program, and stored in records behind that of the call: the paths of opened files, the
/// requests that io_submit takes, the completions that io_getevents gives.
///
/// Reading never waits: memory that is not there at the moment is left out, and the record then has fewer behind it than the call says.
extension CallPrograms {
  /// Bytes of a path that are kept, with the zero behind it; longer ones are left out.
  static let pathBytes: Int32 = 512
  private static let iocbBytes = Int32(CallRings.Layout.recordBytes)
  /// In struct iocb (linux/aio_abi.h): nobody uses it, so the address of the iocb is put there.
  private static let iocbAddressOffset: Int16 = 48
  private static let ioEventShift: Int32 = 5

  /// Places on the stack.
  private enum Stack {
    static let address: Int16 = -8
    /// Records that are wanted, the call's own included.
    static let wanted: Int16 = -16
    static let control: Int16 = -24
    static let ring: Int16 = -32
    static let written: Int16 = -40
    static let record: Int16 = -48
    static let count: Int16 = -56
    static let source: Int16 = -64
  }

  // MARK: Calls

  /// The begin of io_submit(context, count, requests): each request is 64 bytes and becomes a record.
  func submit(_ code: inout BPFAssembler, _ exits: Exits) {
    let (next, done, bounded) = (code.makeLabel(), code.makeLabel(), code.makeLabel())
    code.apply(.and, .r7, Int32(MemoryCalls.mark - 1))
    code.load(.double, .r1, from: .r6, Registers.arguments[2])
    code.store(.double, to: .r10, Stack.source, .r1)
    code.load(.double, .r1, from: .r6, Registers.arguments[1])
    boundCount(&code, bounded)
    code.store(.double, to: .r10, Stack.count, .r1)
    code.apply(.add, .r1, 1)
    code.store(.double, to: .r10, Stack.wanted, .r1)
    reserveSeveral(&code, exits)
    copyArguments(&code)
    code.apply(.move, .r6, .r3)
    code.apply(.add, .r6, Self.iocbBytes)
    code.load(.double, .r7, from: .r10, Stack.source)
    code.load(.double, .r8, from: .r10, Stack.count)
    code.place(next)
    code.jump(done, if: .r8, .equal, 0)
    code.apply(.move, .r1, .r10)
    code.apply(.add, .r1, Int32(Stack.address))
    code.apply(.move, .r2, 8)
    code.apply(.move, .r3, .r7)
    code.call(.readUser)
    code.jump(done, if: .r0, .notEqual, 0)
    code.apply(.move, .r1, .r6)
    code.apply(.move, .r2, Self.iocbBytes)
    code.load(.double, .r3, from: .r10, Stack.address)
    code.call(.readUser)
    code.jump(done, if: .r0, .notEqual, 0)
    code.load(.double, .r1, from: .r10, Stack.address)
    code.store(.double, to: .r6, Self.iocbAddressOffset, .r1)
    code.apply(.add, .r6, Self.iocbBytes)
    code.apply(.add, .r7, 8)
    code.apply(.subtract, .r8, 1)
    code.jump(next)
    code.place(done)
    code.load(.double, .r0, from: .r10, Stack.count)
    code.apply(.subtract, .r0, .r8)
    publishSeveral(&code, exits)
  }

  /// The end of a call that opens a file: by then the kernel has read the path, so it is in memory.
  func opened(_ code: inout BPFAssembler, _ exits: Exits, _ plain: BPFAssembler.Label) {
    let (isRead, isOther, hasPlace, first) = (code.makeLabel(), code.makeLabel(), code.makeLabel(), code.makeLabel())
    code.apply(.and, .r7, Int32(MemoryCalls.mark - 1))
    for type in memoryCalls.firstPath { code.jump(first, if: .r7, .equal, Int32(type)) }
    code.load(.double, .r1, from: .r6, Registers.arguments[1])
    for type in memoryCalls.secondPath { code.jump(hasPlace, if: .r7, .equal, Int32(type)) }
    code.jump(isOther)
    code.place(first)
    code.load(.double, .r1, from: .r6, Registers.arguments[0])
    code.place(hasPlace)
    code.store(.double, to: .r10, Stack.source, .r1)
    // An open that failed needs no name.
    code.load(.double, .r1, from: .r6, Registers.result)
    code.jump(plain, if: .r1, .greater, Int32.max)
    code.apply(.move, .r1, 1 + Self.pathBytes / Int32(CallRings.Layout.recordBytes))
    code.store(.double, to: .r10, Stack.wanted, .r1)
    reserveSeveral(&code, exits)
    copy(&code, from: Registers.result, toValue: 0)
    code.apply(.move, .r1, .r3)
    code.apply(.add, .r1, Int32(CallRings.Layout.recordBytes))
    code.apply(.move, .r2, Self.pathBytes)
    code.load(.double, .r3, from: .r10, Stack.source)
    code.call(.readUserString)
    // A negative number is a large one.
    code.jump(isRead, if: .r0, .lessOrEqual, Self.pathBytes)
    code.apply(.move, .r0, 0)
    code.place(isRead)
    code.load(.double, .r3, from: .r10, Stack.record)
    code.store(.double, to: .r3, Record.values + 8, .r0)
    code.apply(.add, .r0, Int32(CallRings.Layout.recordBytes - 1))
    code.apply(.shiftRight, .r0, Int32(CallRings.Layout.recordBytes.trailingZeroBitCount))
    publishSeveral(&code, exits)
    code.place(isOther)
  }

  /// The end of io_getevents(context, least, most, events, …), which gave as many events of 32 bytes as it returns.
  func completed(_ code: inout BPFAssembler, _ exits: Exits, _ plain: BPFAssembler.Label) {
    let (bounded, isRead) = (code.makeLabel(), code.makeLabel())
    code.load(.double, .r1, from: .r6, Registers.result)
    code.jump(plain, if: .r1, .greater, Int32.max)
    code.jump(plain, if: .r1, .equal, 0)
    boundCount(&code, bounded)
    code.store(.double, to: .r10, Stack.count, .r1)
    code.apply(.add, .r1, 3)
    code.apply(.shiftRight, .r1, 1)
    code.store(.double, to: .r10, Stack.wanted, .r1)
    reserveSeveral(&code, exits)
    copy(&code, from: Registers.result, toValue: 0)
    code.apply(.move, .r1, .r3)
    code.apply(.add, .r1, Int32(CallRings.Layout.recordBytes))
    code.load(.double, .r2, from: .r10, Stack.count)
    code.store(.double, to: .r3, Record.values + 8, .r2)
    code.apply(.shiftLeft, .r2, Self.ioEventShift)
    code.load(.double, .r3, from: .r6, Registers.arguments[3])
    code.call(.readUser)
    code.load(.double, .r1, from: .r10, Stack.wanted)
    code.apply(.subtract, .r1, 1)
    code.jump(isRead, if: .r0, .equal, 0)
    code.apply(.move, .r1, 0)
    code.place(isRead)
    code.apply(.move, .r0, .r1)
    publishSeveral(&code, exits)
  }

  // MARK: Their parts

  /// The count in r1, at most as many as may follow a record.
  private func boundCount(_ code: inout BPFAssembler, _ bounded: BPFAssembler.Label) {
    code.jump(bounded, if: .r1, .lessOrEqual, Int32(CallRings.Layout.followingLimit))
    code.apply(.move, .r1, Int32(CallRings.Layout.followingLimit))
    code.place(bounded)
  }

  /// As `reserve`, for a record with others behind it, without a break: where the ring ends before them, a record of nothing fills it.
  private func reserveSeveral(_ code: inout BPFAssembler, _ exits: Exits) {
    let fits = code.makeLabel()
    findControl(&code, exits)
    code.store(.double, to: .r10, Stack.control, .r1)
    code.apply(.shiftLeft, .r0, Int32(layout.ringBytes.trailingZeroBitCount))
    code.store(.double, to: .r10, Stack.ring, .r0)
    code.load(.double, .r4, from: .r1, Control.written)
    code.load(.double, .r5, from: .r10, Stack.wanted)
    code.apply(.move, .r2, .r4)
    code.apply(.and, .r2, Int32(layout.records - 1))
    code.apply(.move, .r3, Int32(layout.records))
    code.apply(.subtract, .r3, .r2)
    code.jump(fits, if: .r3, .greaterOrEqual, .r5)
    // Room for what is left of the ring, and for the records at its beginning.
    code.apply(.add, .r5, .r3)
    leaveIfFull(&code, exits)
    placeOfRecord(&code, into: .r0)
    code.apply(.move, .r2, 0)
    code.store(.half, to: .r0, Record.type, .r2)
    code.apply(.move, .r2, .r3)
    code.apply(.subtract, .r2, 1)
    code.store(.half, to: .r0, Record.following, .r2)
    code.store(.double, to: .r0, Record.time, .r9)
    code.apply(.add, .r4, .r3)
    code.load(.double, .r5, from: .r10, Stack.wanted)
    code.place(fits)
    leaveIfFull(&code, exits)
    code.store(.double, to: .r10, Stack.written, .r4)
    placeOfRecord(&code, into: .r3)
    code.store(.double, to: .r10, Stack.record, .r3)
    writeHead(&code)
  }

  /// Compares what is in the ring of control r1 at r4 records, and r5 more, with its size. Uses r0 and r2.
  private func leaveIfFull(_ code: inout BPFAssembler, _ exits: Exits) {
    code.load(.double, .r2, from: .r1, Control.taken)
    code.apply(.move, .r0, .r4)
    code.apply(.subtract, .r0, .r2)
    code.apply(.add, .r0, .r5)
    code.jump(exits.full, if: .r0, .greater, Int32(layout.records))
  }

  /// The address of record r4 of this CPU's ring. Uses r2.
  private func placeOfRecord(_ code: inout BPFAssembler, into target: BPFAssembler.Register) {
    code.apply(.move, .r2, .r4)
    code.apply(.and, .r2, Int32(layout.records - 1))
    code.apply(.shiftLeft, .r2, Int32(CallRings.Layout.recordBytes.trailingZeroBitCount))
    code.load(.double, target, from: .r10, Stack.ring)
    code.apply(.add, .r2, target)
    code.address(target, ofMap: memoryMap, UInt32(layout.ringsOffset))
    code.apply(.add, target, .r2)
  }

  /// Stores how many records follow, which r0 says, and the count behind them all.
  private func publishSeveral(_ code: inout BPFAssembler, _ exits: Exits) {
    code.load(.double, .r3, from: .r10, Stack.record)
    code.store(.half, to: .r3, Record.following, .r0)
    code.load(.double, .r4, from: .r10, Stack.written)
    code.apply(.add, .r4, .r0)
    code.apply(.add, .r4, 1)
    code.load(.double, .r1, from: .r10, Stack.control)
    publish(&code, exits)
  }
}
