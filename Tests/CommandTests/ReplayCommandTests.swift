import Foundation
import Testing
import TraceKit

/// Writes a trace of `count` requests, `gapNanoseconds` apart, on one file.
private func write(
  _ path: String, count: Int, gapNanoseconds: Int64 = 1_000_000, operation: TraceOperation = .read, recorded: String = "/data/file",
  sizeBytes: UInt64 = 4096
) throws {
  let writer = try TraceWriter(path: path, metadata: TraceMetadata(source: "generated"))
  let file = writer.addFile(TraceFile(path: Array(recorded.utf8), kind: .regular))
  for i in 0..<count {
    try writer.append(
      TraceEvent(
        startNanoseconds: Int64(i) * gapNanoseconds, operation: operation, file: file, offsetBytes: UInt64(i % 64) * 4096,
        sizeBytes: sizeBytes,
        latencyNanoseconds: 1000, result: Int64(sizeBytes), processID: 1, threadID: 1))
  }
  try writer.finish()
}

@Suite struct ReplayCommandTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func replay(_ arguments: String...) throws -> CommandResult {
    try run(traceReplay, arguments, environment: ["TMPDIR": folder.path])
  }

  @Test func aReplayReportsAndSavesWhatReportPrintsAgain() throws {
    try write(folder / "t", count: 300)
    let first = try replay("run", folder / "t", "--speed", "max", "--json", folder / "r.json")
    #expect(first.status == 0, "\(first.stderr)")
    #expect(first.stdout.contains("300 of 300 requests issued"))
    let again = try replay("report", folder / "r.json")
    let same = again.stdout == first.stdout
    #expect(same)
    let json = try replay("run", folder / "t", "--speed", "max", "--json", "-")
    #expect(json.stdout.hasPrefix("{") && json.stdout.hasSuffix("}\n"))
  }

  @Test func twoReplaysAreComparedAndOthersAreNot() throws {
    try write(folder / "t", count: 3000, gapNanoseconds: 10)
    for (name, more) in [("a", ["--workers", "1"]), ("b", ["--workers", "2"]), ("c", ["--order", "depth"])] {
      let result = try run(
        traceReplay, ["run", folder / "t", "--speed", "max", "--json", folder / name] + more, environment: ["TMPDIR": folder.path])
      #expect(result.status == 0, "\(result.stderr)")
    }
    let diff = try replay("diff", folder / "a", folder / "b", "--json", folder / "d.json")
    #expect(diff.status == 0, "\(diff.stderr)")
    #expect(diff.stdout.contains("95 % interval"))
    #expect(try Data(contentsOf: URL(fileURLWithPath: folder / "d.json")).count > 500)
    let other = try replay("diff", folder / "a", folder / "c")
    #expect(other.status == 4)
    #expect(other.stderr.contains("order") && other.stderr.contains("--allow-different order"))
    #expect(try replay("diff", folder / "a", folder / "c", "--allow-different", "order").status == 0)
    #expect(try replay("diff", folder / "a", folder / "t").status == 1)
  }

  @Test(arguments: [(SIGINT, 130), (SIGTERM, 143)] as [(Int32, Int32)])
  func aSignalLeavesAValidPartialReport(signal: Int32, status: Int32) throws {
    try write(folder / "t", count: 100_000)
    let started = try StartedCommand(
      traceReplay, ["run", folder / "t", "--engine", "null", "--json", folder / "r.json", "--log", folder / "log"])
    usleep(700_000)
    kill(started.processID, signal)
    let result = started.wait(timeoutSeconds: 20)
    #expect(result.status == status)
    let report = try ReportFile.report(folder / "r.json")
    #expect(report.run.partial)
    #expect(report.run.requests > 0 && report.run.requests < 100_000)
    #expect(report.fidelity.verdict == .degraded)
    #expect(try TraceReader(path: folder / "log").totals?.events == report.run.requests)
  }

  @Test func scratchFilesAreRemovedAlsoAfterASignal() throws {
    try write(folder / "t", count: 100_000)
    let scratch = try TemporaryFolder()
    let started = try StartedCommand(traceReplay, ["run", folder / "t", "--scratch", scratch.path])
    usleep(700_000)
    kill(started.processID, SIGTERM)
    #expect(started.wait(timeoutSeconds: 20).status == 143)
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).isEmpty)
  }

  @Test func usageErrorsExitWith2() throws {
    try write(folder / "t", count: 1)
    for arguments in [
      ["run"], ["run", folder / "t", "--speed", "fast"], ["run", folder / "t", "--order", "depth"],
      ["run", folder / "t", "--workers", "0"],
      ["run", folder / "t", "--map", "x"], ["run", folder / "t", "--only", "fly"], ["run", folder / "t", "--iodepth", "8"],
      ["run", folder / "t", "--from", "2s", "--to", "1s"], ["nonsense"], ["diff", "a"], ["diff", "a", "b", "--allow-different", "x"],
    ] {
      let result = try run(traceReplay, arguments)
      #expect(result.status == 2, "\(arguments): \(result.status)")
      #expect(result.stdout.isEmpty)
      #expect(!result.stderr.isEmpty)
    }
    #expect(try replay("--help").status == 0)
    #expect(try replay("--version").stdout == "\(ToolVersion.current)\n")
  }

  @Test func badInputIsOneSentenceAndExit1() throws {
    try write(folder / "t", count: 100, operation: .write)
    _ = FileManager.default.createFile(atPath: folder / "empty", contents: Data())
    _ = FileManager.default.createFile(atPath: folder / "text", contents: Data("fio version 3 iolog\n".utf8))
    _ = FileManager.default.createFile(atPath: folder / "readonly", contents: Data(count: 1 << 20))
    try FileManager.default.createDirectory(atPath: folder / "dir", withIntermediateDirectories: true)
    var newer = try Data(contentsOf: URL(fileURLWithPath: folder / "t"))
    newer[8] = 9
    let sum = crc(newer.prefix(28))
    newer.replaceSubrange(28..<32, with: withUnsafeBytes(of: sum.littleEndian) { Data($0) })
    try newer.write(to: URL(fileURLWithPath: folder / "newer"))
    let expectations: [([String], String)] = [
      (["run", folder / "missing"], "No such file"), (["run", folder / "empty"], "empty, not a trace"),
      (["run", folder / "text"], "not a trace"), (["run", folder / "dir"], "not a regular file"),
      (["run", folder / "newer"], "trace format 9.0"), (["run", folder / "t", "--engine", "warp"], "no such engine"),
      (["run", folder / "t", "--speed", "max", "--target", folder / "readonly"], "--allow-writes"),
      (["run", folder / "t", "--speed", "max", "--target", folder / "t", "--allow-writes"], "can't be its target"),
      (["run", folder / "t", "--speed", "max", "--json", folder / "nowhere/r.json"], "cannot create it"),
      (["run", folder / "t", "--speed", "max", "--json", folder / "text"], "--force"),
      (["run", folder / "t", "--speed", "max", "--log", folder / "text"], "--force"),
      (["run", folder / "t", "--speed", "max", "--map", "/data/file=\(folder / "missing")"], "No such file"),
      (["report", folder / "text"], "not a report"), (["report", folder / "missing"], "No such file"),
    ]
    for (arguments, sentence) in expectations {
      let result = try run(traceReplay, arguments, environment: ["TMPDIR": folder.path])
      #expect(result.status == 1, "\(arguments): \(result.status) \(result.stderr)")
      #expect(result.stderr.contains(sentence), "\(arguments): \(result.stderr)")
      #expect(result.stderr.hasPrefix("trace-replay: "))
    }
    #expect(try Data(contentsOf: URL(fileURLWithPath: folder / "readonly")) == Data(count: 1 << 20))
  }

  private func crc(_ bytes: Data) -> UInt32 {
    var value = UInt32.max
    for byte in bytes {
      value ^= UInt32(byte)
      for _ in 0..<8 { value = value & 1 != 0 ? (value >> 1) ^ 0xEDB8_8320 : value >> 1 }
    }
    return ~value
  }

  @Test func aDamagedTraceIsReplayedWithAWarning() throws {
    try write(folder / "t", count: 200_000, gapNanoseconds: 10)
    var bytes = try Data(contentsOf: URL(fileURLWithPath: folder / "t"))
    bytes[bytes.count / 2] ^= 0xFF
    try bytes.write(to: URL(fileURLWithPath: folder / "damaged"))
    let result = try replay("run", folder / "damaged", "--engine", "null", "--speed", "max")
    #expect(result.status == 0, "\(result.stderr)")
    #expect(result.stderr.contains("events"), "\(result.stderr)")
    try bytes.prefix(bytes.count / 2).write(to: URL(fileURLWithPath: folder / "cut"))
    let cut = try replay("run", folder / "cut", "--engine", "null", "--speed", "max")
    #expect(cut.status == 0, "\(cut.stderr)")
    #expect(cut.stderr.contains("not closed"))
  }
}

/// Needs root and loop devices; the device is one that the test made, over a file of its own.
@Suite(
  .enabled(
    if: geteuid() == 0 && installed("losetup") != nil && installed("mkfs.ext4") != nil
      && FileManager.default.fileExists(atPath: "/dev/loop-control"), "needs root, losetup and mkfs.ext4"))
struct BlockDeviceTests {
  @Test func aFreeDeviceIsReplayedOnAndAMountedOneIsRefused() throws {
    let folder = try TemporaryFolder()
    _ = FileManager.default.createFile(atPath: folder / "image", contents: Data(count: 16 << 20))
    let setup = try run("losetup", ["--find", "--show", folder / "image"])
    try #require(setup.status == 0, "\(setup.stderr)")
    let device = setup.stdout.trimmingCharacters(in: .whitespacesAndNewlines)
    defer { _ = try? run("losetup", ["--detach", device]) }
    try write(folder / "w", count: 64, operation: .write)
    func replay(_ more: String...) throws -> CommandResult {
      try run(traceReplay, ["run", folder / "w", "--speed", "max", "--target", device] + more)
    }
    #expect(try replay().stderr.contains("--allow-writes"))
    let written = try replay("--allow-writes")
    #expect(written.status == 0, "\(written.stderr)")
    #expect(written.stdout.contains("block_device"))
    // The image that backs the loop device is in use.
    let image = try run(traceReplay, ["run", folder / "w", "--speed", "max", "--target", folder / "image", "--allow-writes"])
    #expect(image.status == 1 && image.stderr.contains("in use by"), "\(image.stderr)")
    try #require(try run("mkfs.ext4", ["-q", device]).status == 0)
    try FileManager.default.createDirectory(atPath: folder / "mount", withIntermediateDirectories: true)
    try #require(try run("mount", [device, folder / "mount"]).status == 0)
    defer { _ = try? run("umount", [folder / "mount"]) }
    let mounted = try replay("--allow-writes")
    #expect(mounted.status == 1)
    #expect(mounted.stderr.contains("mounted at"), "\(mounted.stderr)")
    // A full filesystem: scratch files don't fit.
    try write(folder / "big", count: 64, sizeBytes: 1 << 20)
    let full = try run(traceReplay, ["run", folder / "big", "--speed", "max", "--scratch", folder / "mount", "--loops", "1"])
    #expect(full.status == 0 || full.stderr.contains("too little room"), "\(full.stderr)")
    try write(folder / "far", count: 64, operation: .write, sizeBytes: 64 << 20)
    let far = try run(traceReplay, ["run", folder / "far", "--speed", "max", "--scratch", folder / "mount"])
    #expect(far.status == 1 && far.stderr.contains("too little room"), "\(far.stderr)")
    let small = try replay("--allow-writes")
    #expect(small.status == 1)
  }

  @Test func misalignedRequestsWithODirectAreToldWithTheDevicesBlockSize() throws {
    let folder = try TemporaryFolder()
    _ = FileManager.default.createFile(atPath: folder / "image", contents: Data(count: 16 << 20))
    let setup = try run("losetup", ["--find", "--show", "--sector-size", "4096", folder / "image"])
    try #require(setup.status == 0, "\(setup.stderr)")
    let device = setup.stdout.trimmingCharacters(in: .whitespacesAndNewlines)
    defer { _ = try? run("losetup", ["--detach", device]) }
    for (size, isAligned) in [(4096, true), (512, false)] {
      let writer = try TraceWriter(path: folder / "w\(size)", metadata: TraceMetadata(source: "test"), options: TraceWriter.Options())
      _ = writer.addFile(TraceFile(path: Array("/data/file".utf8), kind: .regular, sizeBytes: 1 << 20))
      for i in 0..<64 {
        try writer.append(
          TraceEvent(
            startNanoseconds: Int64(i) * 1000, operation: i % 2 == 0 ? .read : .write, file: 0, offsetBytes: UInt64(i * size),
            sizeBytes: UInt64(size), result: Int64(size), processID: 1, threadID: 1, flags: .direct))
      }
      try writer.finish()
      for engine in ["sync", "libaio", "io_uring"] {
        let result = try run(
          traceReplay, ["run", folder / "w\(size)", "--engine", engine, "--speed", "max", "--target", device, "--allow-writes"])
        if result.stderr.contains("not available") || result.stderr.contains("this kernel has no") { continue }
        #expect(result.status == 0, "\(engine): \(result.stderr)")
        #expect(result.stdout.contains(" 0 errors"), "\(engine): \(result.stdout)")
        #expect(result.stdout.contains("block size of 4096 bytes") != isAligned, "\(engine): \(result.stdout)")
      }
    }
  }

  @Test func aDeviceThatIsTooSmallIsNamed() throws {
    let folder = try TemporaryFolder()
    _ = FileManager.default.createFile(atPath: folder / "image", contents: Data(count: 65_536))
    let setup = try run("losetup", ["--find", "--show", folder / "image"])
    try #require(setup.status == 0, "\(setup.stderr)")
    let device = setup.stdout.trimmingCharacters(in: .whitespacesAndNewlines)
    defer { _ = try? run("losetup", ["--detach", device]) }
    try write(folder / "w", count: 64, operation: .write)
    let result = try run(traceReplay, ["run", folder / "w", "--speed", "max", "--target", device, "--allow-writes"])
    #expect(result.status == 1 && result.stderr.contains("too small"), "\(result.stderr)")
  }
}
