import Testing

@testable import TraceKit

@Suite struct OffsetMapTests {
  @Test func requestsLandInTheirTimeAndPlaceWithFilesOneAfterAnother() {
    var map = OffsetMap(fileSizesBytes: [64 * 4096, 64 * 4096], durationNanoseconds: 120 * 1024 - 1)
    #expect(map.columnShift == 10)
    #expect(map.rowShift == 14)
    map.add(file: 0, offsetBytes: 0, lengthBytes: 4096, isWrite: false, startNanoseconds: 0)
    map.add(file: 1, offsetBytes: 0, lengthBytes: 4096, isWrite: false, startNanoseconds: 119 * 1024)
    map.add(file: 1, offsetBytes: 16384 - 1, lengthBytes: 2, isWrite: true, startNanoseconds: -5)
    let reads = map.cells(writes: false)
    let writes = map.cells(writes: true)
    #expect(reads == [.init(column: 0, row: 0, count: 1), .init(column: 119, row: 16, count: 1)])
    #expect(writes == [.init(column: 0, row: 16, count: 1), .init(column: 0, row: 17, count: 1)])
  }

  @Test func growingInAnyDirectionLosesNoRequest() {
    var map = OffsetMap(fileSizesBytes: [0])
    var random = SplitMix(seed: 4)
    for i in 0..<5000 {
      let bits = UInt64.random(in: 0..<40, using: &random)
      map.add(
        file: 0, offsetBytes: UInt64.random(in: 0...(1 << bits), using: &random) / 512 * 512, lengthBytes: 512, isWrite: i % 3 == 0,
        startNanoseconds: Int64.random(in: 0...(1 << bits), using: &random))
    }
    let reads = map.cells(writes: false).reduce(0) { $0 + $1.count }
    let writes = map.cells(writes: true).reduce(0) { $0 + $1.count }
    #expect(reads == 3333 && writes == 1667)
    #expect(map.columnShift <= 34 && map.rowShift <= 34)
  }

  @Test func extremesDoNotOverflow() {
    var map = OffsetMap(fileSizesBytes: [.max, .max, 5])
    map.add(file: 0, offsetBytes: .max, lengthBytes: .max, isWrite: true, startNanoseconds: .max)
    map.add(file: 2, offsetBytes: 7, lengthBytes: 0, isWrite: true, startNanoseconds: .min)
    map.add(file: 0, offsetBytes: UInt64.max - 1, lengthBytes: 1, isWrite: true, startNanoseconds: .max)
    map.add(file: 99, offsetBytes: 0, lengthBytes: 1, isWrite: false, startNanoseconds: 1)
    let grid = ReplayReport.OffsetGrid(map)
    let inside = grid.map { grid in
      (grid.reads + grid.writes).allSatisfy { $0[0] < UInt64(grid.columns) && $0[1] < UInt64(grid.rows) }
    }
    #expect(inside == true)
    #expect(grid?.columns ?? 0 <= 120 && grid?.rows ?? 0 <= 64)
  }

  @Test func mergingGivesTheMapOfAllRequests() {
    var random = SplitMix(seed: 5)
    var parts = [0, 1].map { _ in [(UInt64, Int64, Bool)]() }
    for i in 0..<2000 {
      // The second part reaches further, so that the first must grow.
      let reach: UInt64 = i % 2 == 0 ? 1 << 20 : 1 << 33
      parts[i % 2].append(
        (
          UInt64.random(in: 0..<reach, using: &random) / 512 * 512, Int64.random(in: 0..<Int64(reach), using: &random),
          Bool.random(using: &random)
        ))
    }
    func fill(_ map: inout OffsetMap, _ requests: [(UInt64, Int64, Bool)]) {
      for (offset, time, isWrite) in requests {
        map.add(file: 0, offsetBytes: offset, lengthBytes: 512, isWrite: isWrite, startNanoseconds: time)
      }
    }
    var whole = OffsetMap(fileSizesBytes: [0])
    var first = OffsetMap(fileSizesBytes: [0])
    var second = OffsetMap(fileSizesBytes: [0])
    fill(&whole, parts[0] + parts[1])
    fill(&first, parts[0])
    fill(&second, parts[1])
    first.merge(second)
    let same = ReplayReport.OffsetGrid(first) == ReplayReport.OffsetGrid(whole)
    #expect(same)
  }

  @Test func anEmptyMapIsNoGrid() {
    let map = OffsetMap(fileSizesBytes: [4096])
    let isNil = ReplayReport.OffsetGrid(map) == nil
    #expect(isNil)
  }
}

@Suite struct RecordedSeriesTests {
  @Test func intervalsHoldWhatBeganInThem() {
    var series = RecordedSeries()
    series.add(startNanoseconds: 0, isRead: true, isWrite: false, bytes: 100, latencyNanoseconds: 7)
    series.add(startNanoseconds: 999_999, isRead: false, isWrite: true, bytes: 50, latencyNanoseconds: -1)
    series.add(startNanoseconds: 2_000_000, isRead: false, isWrite: false, bytes: 9, latencyNanoseconds: -1)
    series.add(startNanoseconds: 500, isRead: true, isWrite: false, bytes: 1, latencyNanoseconds: 3)
    let rows = ReplayReport.RecordedInterval.rows(series)
    #expect(rows.count == 3)
    #expect(series.latency.count == 2 && series.latency.minimum == 3 && series.latency.maximum == 7)
    #expect(rows[0] == .init(startNanoseconds: 0, requests: 3, bytesRead: 101, bytesWritten: 50, latencyNanoseconds: 10))
    #expect(rows[1] == .init(startNanoseconds: 1_000_000, requests: 0, bytesRead: 0, bytesWritten: 0, latencyNanoseconds: nil))
    #expect(rows[2] == .init(startNanoseconds: 2_000_000, requests: 1, bytesRead: 0, bytesWritten: 0, latencyNanoseconds: nil))
  }

  @Test func longRecordingsKeepTheirTotals() {
    var series = RecordedSeries()
    for second in 0..<100_000 {
      series.add(startNanoseconds: Int64(second) * 1_000_000_000, isRead: true, isWrite: false, bytes: 2, latencyNanoseconds: 5)
    }
    #expect(series.intervals.reduce(0) { $0 + $1.requests } == 100_000)
    #expect(series.intervals.reduce(0) { $0 + $1.bytesRead } == 200_000)
    #expect(series.intervals.count <= RecordedSeries.maximumIntervals && series.intervals.count > RecordedSeries.maximumIntervals / 2)
    series.add(startNanoseconds: .max, isRead: true, isWrite: false, bytes: 2, latencyNanoseconds: 5)
    #expect(series.intervals.reduce(0) { $0 + $1.requests } == 100_001)
  }
}
