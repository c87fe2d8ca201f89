import CTrace
import Foundation
import Testing

@testable import TraceKit

@Suite struct TargetOptionTests {
  let folder = Folder()

  private func run(_ trace: String, _ change: (inout ReplayOptions) -> Void) throws -> ReplayReport {
    var options = ReplayOptions()
    options.speed = .maximum
    options.targets.scratch = folder.path
    options.targets.allowWrites = true
    change(&options)
    return try Replayer(tracePath: trace, options: options).run()
  }

  private func file(_ name: String, _ bytes: Int) -> String {
    _ = FileManager.default.createFile(atPath: folder(name), contents: Data(count: bytes))
    return folder(name)
  }

  private func isZero(_ path: String, _ range: Range<Int>) -> Bool { contents(path)!.subdata(in: range).allSatisfy { $0 == 0 } }

  @Test func anOffsetMovesEveryRequest() throws {
    let trace = try makeTrace(
      folder("t"), files: [regular("/a")], events: [access(.write, 0, 512, 1024, at: 1), access(.read, 0, 0, 512, at: 2)])
    let target = file("target", 1 << 20)
    let report = try run(trace) {
      $0.targets.target = target
      $0.targets.offsetBytes = 65536
    }
    #expect(report.run.errors == 0)
    #expect(report.options["offset"] == "65536")
    #expect(isZero(target, 0..<65536 + 512))
    #expect(!isZero(target, 65536 + 512..<65536 + 1024))
    #expect(isZero(target, 65536 + 1536..<1 << 20))
    // A scratch file is as much longer.
    let scratch = try run(trace) {
      $0.targets.offsetBytes = 65536
      $0.targets.keepScratch = true
    }
    #expect(contents(scratch.targets[0].path)!.count == 65536 + 1536)
  }

  @Test func severalRecordedFilesShareOneTargetAtTheirOwnOffsets() throws {
    let trace = try makeTrace(
      folder("t"), files: [regular("/a"), regular("/b"), regular("/c")],
      events: (0..<3).map { access(.write, UInt32($0), 0, 4096, at: Int64($0)) })
    let target = file("target", 1 << 16)
    let report = try run(trace) {
      $0.targets.map = [
        TargetRule("/a", target), TargetRule("/b", target, offsetBytes: 16384), TargetRule("/c", target, offsetBytes: 32768),
      ]
      $0.verifies = true
    }
    #expect(report.run.errors == 0)
    #expect(report.verification?.blocksChecked == 24)
    #expect(report.verification?.isClean == true)
    for start in [0, 16384, 32768] {
      #expect(!isZero(target, start..<start + 512))
      #expect(isZero(target, start + 4096..<start + 16384))
    }
    let truncating = try makeTrace(
      folder("t2"), files: [regular("/a"), regular("/b")],
      events: [
        access(.write, 0, 0, 4096, at: 1), TraceEvent(startNanoseconds: 2, operation: .truncate, file: 1, offsetBytes: 0, result: 0),
      ])
    #expect(throws: TraceError.self) { try run(truncating) { $0.targets.map = [TargetRule("/a", target), TargetRule("/b", target)] } }
  }

  @Test(arguments: [TargetWrap.modulo, .scale])
  func aSmallerTargetTakesEverythingInside(wrap: TargetWrap) throws {
    var random = SplitMix(seed: 9)
    let trace = try makeTrace(
      folder("t"), files: [regular("/a", size: 1 << 30)],
      events: (0..<500).map { (i: Int) -> TraceEvent in
        access(i % 2 == 0 ? .write : .read, 0, UInt64.random(in: 0..<(1 << 18), using: &random) * 4096, 8192, at: Int64(i))
      })
    let target = file("target", 1_000_003)
    #expect(throws: TraceError.self) { try run(trace) { $0.targets.target = target } }
    for offset in [0, 5000] as [UInt64] {
      _ = file("target", 1_000_003)
      let report = try run(trace) {
        $0.targets.target = target
        $0.targets.wrap = wrap
        $0.targets.offsetBytes = offset
        $0.verifies = true
      }
      #expect(report.run.errors == 0)
      #expect(report.run.shortTransfers == 0)
      #expect(report.verification?.isClean == true)
      #expect(contents(target)!.count == 1_000_003)
      #expect(isZero(target, 0..<Int(offset)) || offset == 0)
    }
  }

  @Test func placementKeepsAlignmentAndOrder() {
    let scaled = TargetPlacement(offsetBytes: 0, wrap: .scale, roomBytes: 1 << 20, spanBytes: 1 << 30)
    #expect(scaled.place(0, 4096) == 0)
    #expect(scaled.place((1 << 30) - 4096, 4096) == (1 << 20) - 4096)
    #expect(scaled.place(1 << 29, 4096) == 1 << 19)
    let modulo = TargetPlacement(offsetBytes: 512, wrap: .modulo, roomBytes: 10_000, spanBytes: 1 << 30)
    for offset in stride(from: Int64(0), to: 1 << 20, by: 512) {
      let place = modulo.place(offset, 1024)
      #expect(place >= 512 && place + 1024 <= 10_512 && place % 512 == 0)
    }
    #expect(TargetPlacement().place(Int64.max - 1, 1) == Int64.max - 1)
  }

  @Test func flagsOfTheRecordingAreOverriddenWhenAsked() throws {
    let trace = try makeTrace(
      folder("t"), files: [regular("/a", size: 1 << 20)],
      events: (0..<20).map { (i: Int) -> TraceEvent in
        var event = access(.write, 0, UInt64(i) * 4096, 4096, at: Int64(i))
        if i % 2 == 0 { event.flags = .direct }
        return event
      })
    func flags(_ change: (inout ReplayOptions) -> Void) throws -> [TraceEventFlags] {
      let report = try run(trace) {
        $0.logPath = folder("log")
        $0.overwriteLog = true
        change(&$0)
      }
      #expect(report.run.errors == 0)
      return try readAll(TraceReader(path: folder("log"))).map(\.flags)
    }
    #expect(try flags { _ in }.count { $0.contains(.direct) } == 10)
    #expect(try flags { $0.cacheUse = .buffered }.count { $0.contains(.direct) } == 0)
    #expect(try flags { $0.synchronousWrites = true }.allSatisfy { $0.contains(.requestSync) })
    var status = statfs()
    guard statfs(folder.path, &status) == 0, FilesystemName.name(UInt64(status.f_type)) != "tmpfs" else { return }
    #expect(try flags { $0.cacheUse = .direct }.allSatisfy { $0.contains(.direct) })
  }

  @Test func directIsRefusedWhereTheFilesystemHasNone() throws {
    // /proc takes no O_DIRECT.
    let trace = try makeTrace(
      folder("t"), files: [regular("/a")],
      events: [TraceEvent(startNanoseconds: 1, operation: .read, file: 0, offsetBytes: 0, sizeBytes: 512, result: 0)])
    do {
      _ = try run(trace) {
        $0.targets.target = "/proc/self/status"
        $0.cacheUse = .direct
      }
      Issue.record("was not refused")
    } catch { #expect("\(error)".contains("--direct")) }
  }

  @Test func coldTargetsAreNotCached() throws {
    let trace = try makeTrace(folder("t"), files: [regular("/a", size: 1 << 22)], events: [access(.read, 0, 0, 1 << 22, at: 1)])
    let warm = try run(trace) { _ in }
    let cold = try run(trace) { $0.targets.cold = true }
    #expect(cold.options["cache"]?.hasPrefix("cold, ") == true)
    // tmpfs keeps what it has; where the kernel can say it, the files of other filesystems are gone from the cache.
    if cold.targets[0].filesystem != "tmpfs", cold.options["cache"] != "cold, not known" {
      #expect(cold.options["cache"] == "cold, 0 B of 4.00 MiB cached")
      #expect(warm.options["cache"] == "4.00 MiB of 4.00 MiB cached")
    }
  }

  @Test(arguments: [0, 30, 100])
  func writtenDataCompressAsAsked(percent: Int) throws {
    let trace = try makeTrace(folder("t"), files: [regular("/a")], events: [access(.write, 0, 0, 1 << 18, at: 1)])
    for verifies in [false, true] {
      let target = file("target", 0)
      _ = try run(trace) {
        $0.targets.target = target
        $0.compressiblePercent = percent
        $0.verifies = verifies
      }
      let zeros = contents(target)!.count { $0 == 0 } * 100 / (1 << 18)
      #expect(abs(zeros - percent) <= 4, "\(zeros) % zeros")
    }
  }

  @Test func fillingReportsItsProgress() throws {
    let trace = try makeTrace(folder("t"), files: [regular("/a")], events: [access(.read, 0, 0, 64 << 20, at: 1)])
    var options = ReplayOptions()
    options.speed = .maximum
    options.targets.scratch = folder.path
    var phases = 0
    let report = try Replayer(tracePath: trace, options: options).run {
      if case .filling(_, let all) = $0.phase { phases += all == 64 << 20 ? 1 : 100 }
    }
    #expect(report.run.errors == 0)
    #expect(phases < 100)
  }
}
