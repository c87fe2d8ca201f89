import Foundation

@testable import TraceKit

/// Reports with every part filled, made from seeded random numbers.
enum SampleReport {
  static let windowRequests = 1500

  /// Latencies around `median` nanoseconds, a few of them slow.
  static func histogram(_ count: Int, median: Double, seed: UInt64) -> LatencyHistogram {
    var random = SplitMix(seed: seed)
    var histogram = LatencyHistogram()
    for _ in 0..<count {
      let normal = (0..<6).reduce(-3.0) { sum, _ in sum + Double.random(in: 0..<1, using: &random) } * 1.4
      let slow = Double.random(in: 0..<1, using: &random) < 0.01 ? 8.0 : 1.0
      histogram.record(Int64(median * slow * exp(0.35 * normal)))
    }
    return histogram
  }

  private static func set(_ count: Int, median: Double, lag: Double, seed: UInt64) -> LatencySet {
    var set = LatencySet()
    set.service = histogram(count, median: median, seed: seed)
    set.lag = histogram(count, median: lag, seed: seed + 1)
    set.response = histogram(count, median: median + lag, seed: seed + 2)
    return set
  }

  private static func sizeClasses(_ factor: Double) -> [ReplayReport.SizeClass] {
    let rows: [(UInt64, Int)] = [(0, 60), (512, 200), (4096, 9000), (8192, 2200), (65536, 5000), (1 << 20, 90)]
    return rows.map { bound, count in
      let service = LatencySummary(histogram(count, median: 60_000 * factor, seed: bound))
      return ReplayReport.SizeClass(upToBytes: bound, requests: UInt64(count), service: service)
    }
  }

  private static func files(_ path: String, _ factor: Double) -> [ReplayReport.File] {
    [path, "/var/lib/db/wal/000000010000", "/var/lib/db/base/16384/2620"].enumerated().map { i, path in
      let service = LatencySummary(histogram(900, median: 60_000 * factor, seed: UInt64(i)))
      return ReplayReport.File(path: path, requests: UInt64(9000 / (i + 1)), bytes: 80_000_000, errors: 0, service: service)
    }
  }

  static func offsets() -> ReplayReport.OffsetGrid {
    var map = OffsetMap(fileSizesBytes: [64 << 20, 256 << 20, 16 << 20], durationNanoseconds: 60_000_000_000)
    var random = SplitMix(seed: 3)
    for i in 0..<20_000 {
      let time = Int64(i) * 3_000_000
      if i % 3 == 0 {
        map.add(
          file: 1, offsetBytes: UInt64(i) * 12_000 % (256 << 20), lengthBytes: 65536, isWrite: false, startNanoseconds: time)
      } else if i % 7 == 0 {
        map.add(file: 2, offsetBytes: UInt64(i) * 300 % (16 << 20), lengthBytes: 4096, isWrite: true, startNanoseconds: time)
      } else {
        let offset = UInt64.random(in: 0..<(60 << 20), using: &random) / 4096 * 4096
        map.add(file: 0, offsetBytes: offset, lengthBytes: 4096, isWrite: i % 5 == 0, startNanoseconds: time)
      }
    }
    return ReplayReport.OffsetGrid(map)!
  }

  /// - Parameters:
  ///   - factor: how much slower than the reference everything is.
  ///   - path: a file's path in the report.
  static func report(
    factor: Double = 1, timed: Bool = true, intervals: Int = 120, path: String = "/var/lib/db/base/16384/2619", seed: UInt64 = 1,
    clean: Bool = false
  ) -> ReplayReport {
    let windows = (0..<30).map { i in
      set(windowRequests, median: factor * 60_000 * (1 + 0.4 * sin(Double(i) / 4)), lag: 3000, seed: seed &* 1000 + UInt64(i) * 3)
    }
    var all = LatencySet()
    windows.forEach { all.merge($0) }
    let requests = all.service.count
    let width: Int64 = 500_000_000
    var random = SplitMix(seed: seed + 77)
    let series = (0..<intervals).map { i in
      // The last interval is shorter than the others.
      let part = i == intervals - 1 ? 0.6 : 1.0
      let count = UInt64(part * (340 + 200 * sin(Double(i) / 9) + Double.random(in: 0..<90, using: &random)))
      return ReplayReport.Interval(
        startNanoseconds: Int64(i) * width, requests: count, bytes: count * 9000, errors: 0,
        maximumLagNanoseconds: timed ? Int64(Double.random(in: 4000..<900_000, using: &random) * (i % 40 == 20 ? 4 : 1)) : 0,
        bytesRead: count * 6000, bytesWritten: count * 3000, serviceNanoseconds: UInt64(Double(count) * 62_000 * factor * 12))
    }
    let recorded = (0..<intervals).map { i in
      let count = UInt64((i == intervals - 1 ? 0.6 : 1.0) * (360 + 190 * sin(Double(i) / 9)))
      return ReplayReport.RecordedInterval(
        startNanoseconds: Int64(i) * width, requests: count, bytesRead: count * 6100, bytesWritten: count * 2900,
        latencyNanoseconds: count * 700_000)
    }
    func operation(_ name: String, _ share: Int, _ median: Double) -> ReplayReport.Operation {
      ReplayReport.Operation(
        operation: name, requests: requests / UInt64(share), bytes: name == "fsync" ? 0 : requests / UInt64(share) * 9000, errors: 0,
        shortTransfers: 0, latency: LatencyTriple(set(3000, median: median * factor, lag: 3000, seed: seed + UInt64(share))))
    }
    let rows = windows.enumerated().map { i, set in
      ReplayReport.Window(
        firstRequest: UInt64(i * windowRequests), requests: UInt64(windowRequests), latency: LatencyTriple(set))
    }
    let elapsed = Int64(intervals) * width - 200_000_000
    var report = ReplayReport(
      schema: .init(name: ReplayReport.schemaName, version: ReplayReport.schemaVersion), tool: "trace-replay \(ToolVersion.current)",
      createdUnixNanoseconds: 1_795_255_000_000_000_000,
      trace: .init(
        path: "/srv/traces/orders-db.iotrace", digest: "fca029ae85bb421543facd9341f12c9c", requests: requests + 90, bytesRead: 300_000_000,
        bytesWritten: 150_000_000, durationNanoseconds: elapsed, lossless: true),
      run: .init(
        engine: "sync", speed: timed ? "original" : "max", order: timed ? "streams" : "depth", late: "burst", workers: 8, iodepth: 8,
        filter: "", loops: 1, elapsedNanoseconds: elapsed, cpuNanoseconds: 900_000_000, requests: requests,
        iops: Double(requests) / (Double(elapsed) / 1e9), bytesRead: 270_000_000, bytesWritten: 135_000_000, errors: clean ? 0 : 3,
        shortTransfers: clean ? 0 : 2,
        dropped: 0, shiftNanoseconds: 0, partial: false),
      latency: LatencyTriple(all),
      operations: [operation("read", 2, 50_000), operation("write", 3, 90_000), operation("fsync", 40, 2_500_000)],
      sizeClasses: sizeClasses(factor),
      files: files(path, factor), windows: rows,
      intervals: series, intervalNanoseconds: width,
      errors: clean ? [] : [.init(operation: "write", errno: 28, message: "No space left on device", requests: 3)],
      fidelity: .init(
        verdict: !timed ? .notApplicable : clean ? .faithful : .degraded,
        reasons: timed && !clean ? ["2.1 % of the requests were more than 1.00 ms late", "2 transfers were shorter than recorded"] : [],
        lagBudgetNanoseconds: 1_000_000, lateShare: timed ? (clean ? 0.0002 : 0.021) : nil, orderInversions: 12,
        interarrivalError: timed ? 0.0233 : nil,
        recordedRequests: requests, issuedRequests: requests, recordedInFlight: 0.16, replayedInFlight: 0.12,
        notReplayed: [.init(reason: "close", requests: 76), .init(reason: "open", requests: 84)]),
      targets: [
        .init(path: "/tmp/trace-replay.QSf2xk/000000-2619", kind: "scratch", filesystem: "ext4"),
        .init(path: "/dev/nvme0n1", kind: "block_device", filesystem: nil),
      ], targetCount: 2, notes: ["the trace was cut at the first damaged block"],
      host: .init(
        hostName: "db-7", kernel: "Linux 6.18.44", architecture: "x86_64", cpuCount: 16, cpuModel: "AMD EPYC 9354", memoryBytes: 64 << 30,
        clockSource: "tsc", devices: [.init(name: "nvme0n1", sizeBytes: 960_197_124_096, rotational: false, scheduler: "none")]),
      options: ["seed": "1", "lag-budget": "1.00 ms", "cache": "cold"])
    report.recordedIntervals = recorded
    report.recordedIntervalNanoseconds = width
    report.recordedLatency = LatencySummary(histogram(9000, median: 75_000, seed: 12))
    report.offsetMap = offsets()
    report.worstRequests = (0..<20).map { worst($0, path: path, timed: timed, slowest: Int64(40_000_000 * factor)) }
    return report
  }

  private static func worst(_ i: Int, path: String, timed: Bool, slowest: Int64) -> ReplayReport.WorstRequest {
    let isSync = i % 4 == 0
    let lag: Int64? = timed ? Int64(i) * 1234 : nil
    let offset: UInt64? = isSync ? nil : UInt64(i) * 81_920
    return ReplayReport.WorstRequest(
      request: UInt64(7919 * (i + 1)), operation: isSync ? "fsync" : "read", file: i % 5 == 1 ? path : "/var/lib/db/wal/000000010000",
      offsetBytes: offset, sizeBytes: isSync ? 0 : 8192, atNanoseconds: Int64(i) * 2_345_678_901, lagNanoseconds: lag,
      serviceNanoseconds: slowest / Int64(i + 1), result: i == 3 ? -28 : 8192)
  }
}
