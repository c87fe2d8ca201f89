import Foundation
import Testing

@testable import TraceKit

/// A page built word by word, as include/linux/ring_buffer.h describes it.
private struct PageBuilder {
  var data: [UInt8] = []
  static let layout = try! RingPageLayout(
    "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
      + "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n")

  mutating func word(_ value: UInt32) { data.appendLittleEndian(value) }
  mutating func header(_ type: UInt32, _ delta: UInt32) { word(type | delta << 5) }
  mutating func event(_ delta: UInt32, _ words: [UInt32]) {
    header(UInt32(words.count), delta)
    words.forEach { word($0) }
  }

  func page(time: UInt64, flags: UInt64 = 0, missed: UInt64? = nil, committed: Int? = nil) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendLittleEndian(time)
    bytes.appendLittleEndian(UInt64(committed ?? data.count) | flags)
    bytes += data
    if let missed { bytes.appendLittleEndian(missed) }
    return bytes + [UInt8](repeating: 0, count: 4096 - bytes.count)
  }
}

/// Times and first words of a page's events.
private func decode(_ bytes: [UInt8], length: Int? = nil) -> (events: [(UInt64, [UInt8])], page: RingPage) {
  bytes.withUnsafeBytes { buffer in
    var page = RingPage(buffer.baseAddress!, length: length ?? bytes.count, layout: PageBuilder.layout)
    var events: [(UInt64, [UInt8])] = []
    while let event = page.next() {
      events.append((event.nanoseconds, Array(UnsafeRawBufferPointer(start: event.bytes, count: event.length))))
    }
    return (events, page)
  }
}

@Suite struct RingPageTests {
  @Test func deltasAddUpFromThePagesTime() {
    var builder = PageBuilder()
    builder.event(0, [1])
    builder.event(5, [2, 3])
    builder.event(7, [4])
    let (events, page) = decode(builder.page(time: 1000))
    #expect(events.map(\.0) == [1000, 1005, 1012])
    #expect(events.map(\.1.count) == [4, 8, 4])
    #expect(!page.isMalformed && !page.followsLoss)
  }

  @Test func aTimeExtendCountsFromBit27() {
    var builder = PageBuilder()
    builder.event(1, [1])
    builder.header(30, 9)
    builder.word(3)
    builder.event(2, [2])
    let extended: UInt64 = 1 + (3 << 27) + 9
    let times = decode(builder.page(time: 0)).events.map(\.0)
    #expect(times == [1, extended + 2])
  }

  @Test func anAbsoluteTimeTakesItsUpperBitsFromTheTimeBefore() {
    let base: UInt64 = 0x1B00_0000_0000_1000
    var builder = PageBuilder()
    builder.event(0, [1])
    builder.header(31, 0x55)
    builder.word(2)
    builder.event(1, [2])
    let lower: UInt64 = (2 << 27) + 0x55
    let upper: UInt64 = base & (0xF8 << 56)
    // Here the lower 59 bits ran over: without a carry it would lie in the past.
    let carried: UInt64 = upper + (1 << 59) + lower
    let times = decode(builder.page(time: base)).events.map(\.0)
    #expect(times == [base, carried + 1])
    let early = decode(builder.page(time: 77)).events.last?.0
    #expect(early == lower + 1)
  }

  @Test func aLongEventStatesItsLengthInTheNextWord() {
    var builder = PageBuilder()
    builder.header(0, 3)
    builder.word(4 + 200)
    builder.data += [UInt8](repeating: 9, count: 200)
    builder.event(1, [1])
    let (events, page) = decode(builder.page(time: 10))
    #expect(events.map(\.0) == [13, 14] && events[0].1.count == 200 && !page.isMalformed)
  }

  @Test func discardedEventsAreSteppedOverAndNullEventsEndThePage() {
    var builder = PageBuilder()
    builder.event(1, [1])
    // Discarded: 12 bytes behind the header word, and a difference that is a time.
    builder.header(29, 6)
    builder.word(12)
    builder.data += [UInt8](repeating: 0xFF, count: 8)
    // Discarded: the difference 1 is a mark.
    builder.header(29, 1)
    builder.word(4)
    builder.event(2, [2])
    builder.header(29, 0)
    builder.word(0xFFFF_FFFF)
    builder.event(2, [3])
    #expect(decode(builder.page(time: 100)).events.map(\.0) == [101, 109])
  }

  @Test func aPageSaysThatEventsWereLostAndHowMany() {
    var builder = PageBuilder()
    builder.event(1, [1])
    let counted = decode(builder.page(time: 0, flags: 3 << 30, missed: 1234)).page
    #expect(counted.followsLoss && counted.lostEvents == 1234)
    let uncounted = decode(builder.page(time: 0, flags: 1 << 31)).page
    #expect(uncounted.followsLoss && uncounted.lostEvents == nil)
  }

  @Test func nothingBeyondThePageIsLookedAt() {
    var builder = PageBuilder()
    builder.event(1, [1])
    builder.header(28, 1)
    #expect(decode(builder.page(time: 0)).page.isMalformed)
    #expect(decode(builder.page(time: 0)).events.count == 1)
    // A commit longer than the page, a page shorter than its header, a length that is none.
    #expect(decode(builder.page(time: 0, committed: 1 << 26)).page.isMalformed)
    #expect(decode(builder.page(time: 0), length: 7).page.isMalformed)
    var short = PageBuilder()
    short.header(0, 0)
    short.word(3)
    #expect(decode(short.page(time: 0)).page.isMalformed)
    // Whatever it holds: no crash, and never more than fits.
    var state: UInt64 = 1
    for _ in 0..<2000 {
      let noise = (0..<4096).map { _ -> UInt8 in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt8(truncatingIfNeeded: state >> 33)
      }
      #expect(decode(noise).events.count <= 1020)
    }
  }

  /// Ten preads and five pwrites, 0.3 s between them, as Linux 6.18 wrote them on x86-64.
  @Test func theGoldenPageOfARealKernelDecodes() throws {
    let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: goldenFolder + "/trace-page.bin")))
    let (events, page) = decode(bytes)
    func number(_ event: [UInt8], _ offset: Int) -> UInt64 { event.littleEndian(offset, as: UInt64.self) ?? 0 }
    let types = events.map { Int($0.1[0]) | Int($0.1[1]) << 8 }
    let expectedTypes = Array(repeating: [838, 837], count: 10) + Array(repeating: [836, 835], count: 5)
    #expect(types == expectedTypes.flatMap { $0 })
    let enters = events.enumerated().filter { $0.offset % 2 == 0 }.map(\.element.1)
    let sizes: [UInt64] = Array(100..<110) + Array(10..<15)
    let offsets: [UInt64] = Array(stride(from: 0, to: 40_960, by: 4096)) + Array(stride(from: 0, to: 2560, by: 512))
    #expect(enters.map { number($0, 32) } == sizes)
    #expect(enters.map { number($0, 40) } == offsets)
    let exits = events.enumerated().filter { $0.offset % 2 == 1 }.map(\.element.1)
    #expect(exits.map { number($0, 16) } == sizes)
    let times = events.map(\.0)
    #expect(zip(times, times.dropFirst()).allSatisfy { $0 < $1 })
    let pause = times[20] - times[19]
    #expect(pause > 300_000_000 && pause < 400_000_000)
    #expect(times[0] == 14_994_832_774_065 && !page.isMalformed)
  }
}

@Suite struct TraceEventFormatTests {
  private let text = """
    name: sys_enter_read
    ID: 842
    format:
    \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
    \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

    \tfield:unsigned int fd;\toffset:16;\tsize:8;\tsigned:0;
    \tfield:char comm[16];\toffset:24;\tsize:16;\tsigned:0;
    \tfield:__data_loc char[] cmd;\toffset:40;\tsize:4;\tsigned:0;

    print fmt: "fd: 0x%08lx", ((unsigned long)(REC->fd))
    """

  @Test func fieldsHaveOffsetSizeAndSign() throws {
    let format = try TraceEventFormat(text, event: "syscalls/sys_enter_read")
    #expect(format.number == 842)
    #expect(try format.field("common_pid") == .init(name: "common_pid", offset: 4, size: 4, isSigned: true, isIndirect: false))
    #expect(try format.field("comm").size == 16)
    #expect(try format.field("cmd").isIndirect)
    #expect(format.ownFields.map(\.name) == ["fd", "comm", "cmd"])
    #expect(throws: TraceError.self) { try format.field("count") }
  }

  @Test func formatsThatMakeNoSenseAreRefused() {
    #expect(throws: TraceError.self) { try TraceEventFormat("name: x\n\tfield:int a;\toffset:0;\tsize:4;\tsigned:1;", event: "x") }
    #expect(throws: TraceError.self) { try TraceEventFormat("ID: 5\n\tfield:int a;\toffset:-8;\tsize:4;\tsigned:1;", event: "x") }
    #expect(throws: TraceError.self) { try TraceEventFormat("ID: 5\n\tfield:int a;\toffset:99999;\tsize:4;\tsigned:1;", event: "x") }
    #expect(throws: TraceError.self) { try RingPageLayout("\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;") }
  }

  @Test func valuesOutsideAnEventAreZero() {
    let field = TraceEventFormat.Field(name: "a", offset: 4, size: 4, isSigned: true, isIndirect: false)
    let bytes: [UInt8] = [0, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF]
    bytes.withUnsafeBytes {
      #expect(field.value($0.baseAddress!, 8) == -2)
      #expect(field.value($0.baseAddress!, 7) == 0)
    }
  }
}
