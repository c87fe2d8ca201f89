import CTrace
import Testing

@testable import TraceKit

/// Block events with fields at places of their own, so that nothing can rely on those of one kernel.
private final class BlockEventBuilder {
  static let disk: UInt32 = 7 << 20 | 3
  let events: BlockEvents
  private static let numbers: [String: Int] = [
    "block_rq_issue": 300, "block_rq_complete": 301, "block_rq_requeue": 302, "block_rq_merge": 303, "block_bio_frontmerge": 304,
    "block_io_start": 305,
  ]

  init() throws {
    events = try BlockEvents(
      { (_, event) throws(TraceError) in
        guard let number = Self.numbers[event] else { return nil }
        let error = event == "block_rq_complete" ? "\tfield:int error;\toffset:40;\tsize:4;\tsigned:1;\n" : ""
        return try TraceEventFormat(
          """
          ID: \(number)
          \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
          \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;
          \tfield:dev_t dev;\toffset:8;\tsize:4;\tsigned:0;
          \tfield:unsigned int nr_sector;\toffset:12;\tsize:4;\tsigned:0;
          \tfield:sector_t sector;\toffset:16;\tsize:8;\tsigned:0;
          \tfield:char rwbs[10];\toffset:24;\tsize:10;\tsigned:0;
          \(error)
          """, event: event)
      }, hasRequests: true, hasBios: false)
  }

  func event(
    _ name: String, _ letters: String, sector: UInt64, sectors: UInt32, thread: Int32 = 50, error: Int32 = 0
  ) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendLittleEndian(UInt32(Self.numbers[name]!))
    bytes.appendLittleEndian(UInt32(bitPattern: thread))
    bytes.appendLittleEndian(Self.disk)
    bytes.appendLittleEndian(sectors)
    bytes.appendLittleEndian(sector)
    bytes += Array(letters.utf8) + [UInt8](repeating: 0, count: 16 - letters.utf8.count)
    bytes.appendLittleEndian(UInt32(bitPattern: error))
    return bytes
  }
}

/// What a stream makes of events at the given times.
private func requests(
  _ list: [(UInt64, [UInt8])], devices: [BlockDevice]? = nil
) throws -> (records: [trace_record], counters: BlockCounters) {
  let builder = try BlockEventBuilder()
  var stream = BlockStream(
    events: builder.events,
    scope: .init(epochNanoseconds: 0, startNanoseconds: 10, devices: devices ?? [BlockDevice(testing: BlockEventBuilder.disk)]))
  var records = RecordBuffer()
  for (time, bytes) in list {
    bytes.withUnsafeBytes {
      stream.accept(RingPage.Event(nanoseconds: time, bytes: $0.baseAddress!, length: bytes.count), into: &records)
    }
  }
  let round = records.takeRound(watermark: 0, isLast: true)
  let slots = UnsafeBufferPointer(start: round.slots.assumingMemoryBound(to: trace_record.self), count: round.slotCount)
  return (Array(slots), stream.finish())
}

extension BlockDevice {
  fileprivate init(testing disk: UInt32, device: UInt32? = nil, startBytes: UInt64 = 0, sizeBytes: UInt64 = 1 << 40) {
    self.init(
      path: "/dev/test", device: device ?? disk, disk: disk, startBytes: startBytes, sizeBytes: sizeBytes, hasRequests: true,
      folder: "/sys/block/test")
  }
}

@Suite struct BlockStreamTests {
  private let build: BlockEventBuilder

  init() throws { build = try BlockEventBuilder() }

  @Test func aRequestLastsFromIssueToCompletionAndBelongsToWhoMadeIt() throws {
    let (records, counters) = try requests([
      (100, build.event("block_io_start", "WFS", sector: 64, sectors: 8, thread: 0)),
      (130, build.event("block_rq_issue", "WFS", sector: 64, sectors: 8, thread: 0)),
      (190, build.event("block_rq_complete", "WFS", sector: 64, sectors: 8, thread: 0)),
    ])
    let record = try #require(records.first)
    #expect(records.count == 1 && record.operation == TraceOperation.write.rawValue)
    #expect(record.offset == 32_768 && record.size == 4096 && record.result == 4096)
    #expect(record.start_ns == 130 && record.latency_ns == 60)
    #expect(record.flags == TraceEventFlags([.requestDataSync, .direct]).rawValue)
    #expect(counters.queueTime.count == 1 && counters.queueTime.quantile(1) == 30 && counters.devices[0].fua == 1)
  }

  @Test func aPartialCompletionIsNotTheFinalOne() throws {
    let (records, counters) = try requests([
      (100, build.event("block_rq_issue", "R", sector: 0, sectors: 16)),
      (150, build.event("block_rq_complete", "R", sector: 0, sectors: 4)),
      (170, build.event("block_rq_complete", "R", sector: 4, sectors: 12)),
    ])
    #expect(records.map(\.latency_ns) == [70] && records.map(\.size) == [8192] && records.map(\.offset) == [0])
    #expect(counters.partialCompletions == 1 && counters.devices[0].recorded.reads == 1)
  }

  @Test func aRequestThatWasGivenBackIsIssuedAgain() throws {
    let (records, counters) = try requests([
      (100, build.event("block_rq_issue", "W", sector: 8, sectors: 8)),
      (120, build.event("block_rq_requeue", "W", sector: 8, sectors: 8)),
      (200, build.event("block_rq_issue", "W", sector: 8, sectors: 8)),
      (260, build.event("block_rq_complete", "W", sector: 8, sectors: 8)),
    ])
    #expect(records.map(\.start_ns) == [200] && records.map(\.latency_ns) == [60] && counters.requeues == 1)
  }

  @Test func requestsOfOneSectorCompleteInTheirOrder() throws {
    let (records, _) = try requests([
      (100, build.event("block_rq_issue", "R", sector: 8, sectors: 8)),
      (110, build.event("block_rq_issue", "R", sector: 8, sectors: 8)),
      (150, build.event("block_rq_complete", "R", sector: 8, sectors: 8)),
      (190, build.event("block_rq_complete", "R", sector: 8, sectors: 8)),
    ])
    #expect(records.map(\.latency_ns) == [50, 80])
  }

  @Test func flushesArePairedInOrderAndTheirFramesAreNoWrites() throws {
    let (records, counters) = try requests([
      (90, build.event("block_io_start", "FWS", sector: 0, sectors: 0)),
      (100, build.event("block_rq_issue", "FF", sector: 0, sectors: 0)),
      (180, build.event("block_rq_complete", "FF", sector: UInt64.max, sectors: 0)),
      (185, build.event("block_rq_complete", "WS", sector: 0, sectors: 0)),
    ])
    #expect(records.map(\.operation) == [TraceOperation.flush.rawValue] && records.map(\.latency_ns) == [80])
    #expect(counters.devices[0].recorded.flushes == 1 && counters.devices[0].flushFrames == 1)
    #expect(counters.devices[0].recorded.writes == 0 && counters.inFlightAtStart == 0)
  }

  @Test func aFrontMergeTakesTheWaitingTimeAlong() throws {
    let (records, counters) = try requests([
      (100, build.event("block_io_start", "W", sector: 16, sectors: 8)),
      (120, build.event("block_bio_frontmerge", "W", sector: 8, sectors: 8)),
      (150, build.event("block_rq_issue", "W", sector: 8, sectors: 16)),
      (190, build.event("block_rq_complete", "W", sector: 8, sectors: 16)),
    ])
    #expect(records.map(\.size) == [8192] && counters.queueTime.quantile(1) == 50)
  }

  @Test func errorsAndRequestsFromBeforeAreSaid() throws {
    let (records, counters) = try requests([
      (90, build.event("block_rq_complete", "R", sector: 800, sectors: 8)),
      (100, build.event("block_rq_issue", "D", sector: 8, sectors: 8)),
      (140, build.event("block_rq_complete", "D", sector: 8, sectors: 8, error: -5)),
      (150, build.event("block_rq_issue", "R", sector: 8, sectors: 8)),
    ])
    #expect(records.map(\.result) == [4096, -5] && records[0].flags == TraceEventFlags([.inFlightAtAttach, .direct]).rawValue)
    #expect(records[0].start_ns == 10 && records[0].latency_ns == 80)
    #expect(counters.inFlightAtStart == 1 && counters.inFlightAtEnd == 1)
  }

  @Test func aPartitionHasOnlyWhatLiesInsideIt() throws {
    let partition = BlockDevice(
      testing: BlockEventBuilder.disk, device: BlockEventBuilder.disk + 1, startBytes: 1 << 20, sizeBytes: 1 << 20)
    let (records, _) = try requests(
      [
        (100, build.event("block_rq_issue", "W", sector: 0, sectors: 8)),
        (110, build.event("block_rq_complete", "W", sector: 0, sectors: 8)),
        (120, build.event("block_rq_issue", "W", sector: 2056, sectors: 8)),
        (130, build.event("block_rq_complete", "W", sector: 2056, sectors: 8)),
      ], devices: [partition])
    #expect(records.map(\.offset) == [4096])
  }

  @Test func lettersSayWhatARequestIs() {
    func kind(_ letters: String, hasData: Bool = true) -> BlockRequestKind {
      Array(letters.utf8).withUnsafeBytes { BlockRequestKind($0, hasData: hasData) }
    }
    #expect(kind("RAM").operation == .read && !kind("RAM").isForced)
    #expect(kind("WFS").isForced && kind("FWFS").isForced && !kind("FWS").isForced)
    #expect(kind("FWS").operation == .write && kind("FF").operation == .flush && kind("F").operation == .flush)
    #expect(kind("DS").operation == .discard && kind("DE").operation == .discard)
    #expect(kind("WZ").operation == .writeZeroes && kind("NS").operation == .writeZeroes && kind("N", hasData: false).operation == nil)
    #expect(kind("").operation == nil)
  }

  @Test func theKernelsCountersAreReadFromTheirLine() {
    let line =
      "    2088       10    18456      311     2337       20    27520      842        0      512     1153        3        0   133120        7      260      100"
    let statistics = BlockStatistics(line)
    #expect(statistics?.reads == 2088 && statistics?.readBytes == 18456 * 512 && statistics?.writes == 2337)
    #expect(statistics?.discards == 3 && statistics?.discardedBytes == 133120 * 512 && statistics?.flushes == 260)
    #expect(BlockStatistics("1 2 3") == nil)
  }
}
