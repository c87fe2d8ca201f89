import CTrace
import Foundation
import Testing

@testable import TraceKit

/// Programs for the kernel, and the records that they store.
@Suite struct CallRecordTests {
  @Test func instructionsAreThoseOfTheSpecification() {
    var code = BPFAssembler()
    let out = code.makeLabel()
    code.load(.double, .r7, from: .r1, 8)
    code.apply(.move, .r6, .r0)
    code.apply(.and, .r1, 255)
    code.jump(out, if: .r7, .greater, 3)
    code.store(.half, to: .r3, -2, .r7)
    code.address(.r2, ofMap: 5, 64)
    code.call(.nanoseconds)
    code.call(kernelFunction: 9)
    code.place(out)
    code.finish()
    // Opcode, registers (source in the high half), offset, immediate: as clang assembles the same lines.
    let expected: [[UInt8]] = [
      [0x79, 0x17, 8, 0, 0, 0, 0, 0], [0xBF, 0x06, 0, 0, 0, 0, 0, 0], [0x57, 0x01, 0, 0, 255, 0, 0, 0], [0x25, 0x07, 5, 0, 3, 0, 0, 0],
      [0x6B, 0x73, 0xFE, 0xFF, 0, 0, 0, 0], [0x18, 0x22, 0, 0, 5, 0, 0, 0], [0, 0, 0, 0, 64, 0, 0, 0], [0x85, 0, 0, 0, 5, 0, 0, 0],
      [0x85, 0x20, 0, 0, 9, 0, 0, 0], [0xB7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0],
    ]
    let bytes = code.program.map { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }
    #expect(bytes == expected)
  }

  @Test func ringsAreBoundedHoweverManyCPUsThereAre() {
    for processors in [1, 2, 3, 64, 500, 8192] {
      for asked in [1, 64 << 10, 16 << 20, 1 << 30] {
        let layout = CallRings.Layout(processors: processors, bytesPerProcessor: asked)
        #expect(layout.records.nonzeroBitCount == 1 && layout.records >= 256)
        #expect(layout.totalBytes < 1 << 29)
        #expect(layout.ringsOffset >= layout.callsOffset + 4096 && layout.ringsOffset % 4096 == 0)
      }
    }
    #expect(CallRings.Layout(processors: 2, bytesPerProcessor: 16 << 20).ringBytes == 16 << 20)
  }

  private func records(_ times: [UInt64], thread: Int32) -> DrainedPages {
    let pages = DrainedPages(.callRecords, capacity: times.count * 64)
    for time in times {
      var record = trace_call_record(type: 7, following: 0, thread_id: thread, nanoseconds: time, values: (time, 0, 0, 0, 0, 0))
      pages.append(&record, count: 64)
    }
    return pages
  }

  @Test func whatFollowsARecordComesWithItAndNothingBeyond() {
    var bytes: [UInt8] = []
    func add(_ type: UInt16, following: UInt16, _ time: UInt64, parts: Int) {
      var record = trace_call_record(type: type, following: following, thread_id: 1, nanoseconds: time, values: (0, 0, 0, 0, 0, 0))
      withUnsafeBytes(of: &record) { bytes += $0 }
      bytes += [UInt8](repeating: 0xAB, count: 64 * parts)
    }
    add(7, following: 0, 10, parts: 0)
    add(7, following: 2, 20, parts: 2)
    add(0, following: 3, 30, parts: 3)
    add(7, following: 1, 40, parts: 1)
    // The last says more than there is, as damage would.
    add(7, following: 9, 50, parts: 1)
    bytes.withUnsafeBytes { buffer in
      let copy = UnsafeMutableRawPointer.allocate(byteCount: buffer.count, alignment: 64)
      defer { copy.deallocate() }
      copy.copyMemory(from: buffer.baseAddress!, byteCount: buffer.count)
      var records = CallRecords(copy, bytes: buffer.count)
      var seen: [(UInt64, Int)] = []
      while let event = records.next() { seen.append((event.nanoseconds, event.length / 64)) }
      #expect(seen.map(\.0) == [10, 20, 30, 40, 50] && seen.map(\.1) == [1, 3, 4, 2, 2])
    }
  }

  @Test func namesAreMadePlain() {
    func plain(_ path: String, in folder: String?) -> String {
      let given = GivenName(Array(path.utf8), in: folder.map { Array($0.utf8) }, process: 0, flags: nil, nanoseconds: 0)
      return String(decoding: given.plainPath, as: UTF8.self)
    }
    #expect(plain("/a/./b/../c", in: nil) == "/a/c" && plain("../x", in: "/a/b") == "/a/x" && plain("x", in: "/") == "/x")
    #expect(plain("../../../x", in: "/a") == "/x" && plain("a//b/", in: "/r/") == "/r/a/b")
    // Where the folder is not known, the name stays relative, and never leads out of where a replay puts it.
    #expect(plain("x/y", in: nil) == "x/y" && plain("../../x", in: nil) == "x" && plain(".", in: nil) == "")
    #expect(GivenName([1], in: nil, process: 0, flags: UInt32(CTRACE_O_TMPFILE | O_RDWR), nanoseconds: 0).isOfFolderOnly)
  }

  @Test func recordsOfSeveralCPUsAreMergedByTime() throws {
    let layout = try RingPageLayout(
      "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
        + "\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n")
    var merge = StreamMerge(streams: 2, layout: layout)
    var seen: [(thread: Int32, time: UInt64, isBehindLoss: Bool)] = []
    func take(_ round: DrainedRound) {
      let bound = merge.absorb(round)
      merge.drain(before: bound) { _, isBehindLoss, event in
        let thread = event.bytes.load(fromByteOffset: 4, as: Int32.self)
        #expect(event.bytes.load(fromByteOffset: 16, as: UInt64.self) == event.nanoseconds && event.length == 64)
        seen.append((thread, event.nanoseconds, isBehindLoss))
      }
    }
    var first = DrainedRound()
    first.pages = [(0, records([10, 30, 50], thread: 1)), (1, records([20, 40], thread: 2))]
    first.bounds = [45, 60]
    take(first)
    #expect(seen.map(\.time) == [10, 20, 30, 40])
    var second = DrainedRound()
    second.pages = [(0, records([60], thread: 1)), (1, records([55, 70], thread: 2)), (1, records([80], thread: 2))]
    second.bounds = [100, 100]
    second.note(.init(stream: 1, lostEvents: 3, from: 41, to: 90))
    take(second)
    #expect(seen.map(\.time) == [10, 20, 30, 40, 50, 55, 60, 70, 80])
    #expect(seen.map(\.thread) == [1, 2, 1, 2, 1, 2, 1, 2, 2])
    #expect(seen.map(\.isBehindLoss) == [false, false, false, false, false, true, false, false, true])
    let malformed = merge.malformedPages
    #expect(malformed == 0)
  }
}
