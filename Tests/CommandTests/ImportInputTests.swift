import Foundation
import Testing
import TraceKit

/// Where imports read from, and what they leave behind.
@Suite struct ImportInputTests {
  let folder: TemporaryFolder
  var output: String { folder / "out.iotrace" }

  init() throws { folder = try TemporaryFolder() }

  private static func log(requests: Int) -> String {
    let lines = (0..<requests).map { "/tmp/file read \($0 * 7 % 1000 * 4096) 4096\n" }
    return "fio version 2 iolog\n/tmp/file add\n/tmp/file open\n" + lines.joined() + "/tmp/file close\n"
  }

  private func reads() throws -> UInt64? { try TraceReader(path: output).totals?.reads }

  @Test func theStandardInputIsImported() throws {
    let result = try run(traceRecord, ["import", "-", "-o", output], input: Self.log(requests: 300))
    #expect(result.status == 0, "\(result.stderr)")
    #expect(try reads() == 300)
    #expect(try run(traceRecord, ["import", "-", "-", "-o", output]).status == 2)
  }

  @Test(.enabled(if: installed("gzip") != nil, "no gzip")) func gzipIsUnpackedFromFilesAndPipes() throws {
    let log = try folder.write("log", Self.log(requests: 5000))
    #expect(
      try run("sh", ["-c", "gzip -c '\(log)' > '\(log).gz'; cat '\(log).gz' | '\(traceRecord)' import - -o '\(output)'"]).status == 0)
    #expect(try reads() == 5000)
    #expect(try run(traceRecord, ["import", log + ".gz", "-o", output, "--force"]).status == 0)
    #expect(try reads() == 5000)
    #expect(try TraceReader(path: output).metadata.command == [log + ".gz"])
    // Cut off, and damaged inside: a sentence, and no trace.
    let packed = try Data(contentsOf: URL(fileURLWithPath: log + ".gz"))
    try packed.prefix(packed.count / 2).write(to: URL(fileURLWithPath: folder / "cut.gz"))
    var broken = packed
    for position in packed.count / 2..<packed.count / 2 + 20 { broken[position] ^= 0xFF }
    try broken.write(to: URL(fileURLWithPath: folder / "broken.gz"))
    for (name, word) in [("cut.gz", "gzip data that is cut off"), ("broken.gz", "gzip data")] {
      let result = try run(traceRecord, ["import", folder / name, "-o", folder / "none.iotrace"])
      #expect(result.status == 1 && result.stderr.contains(word), "\(name): \(result.stderr)")
      #expect(!FileManager.default.fileExists(atPath: folder / "none.iotrace"))
    }
  }

  @Test(.enabled(if: getuid() == 0, "needs root to mount a small filesystem")) func anImportThatFailsLeavesNothingBehind() throws {
    let mount = folder / "small"
    try FileManager.default.createDirectory(atPath: mount, withIntermediateDirectories: true)
    try #require(try run("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", mount]).status == 0)
    defer { _ = try? run("umount", ["-l", mount]) }
    var random = SystemRandomNumberGenerator()
    let lines = (0..<50_000).map { _ in
      "/tmp/file read \(UInt64.random(in: 0..<1 << 40, using: &random)) \(UInt32.random(in: 1..<1 << 20, using: &random))\n"
    }
    let log = try folder.write("log", "fio version 2 iolog\n/tmp/file add\n/tmp/file open\n" + lines.joined())
    let result = try run(traceRecord, ["import", log, "-o", mount + "/t.iotrace"])
    #expect(result.status == 1 && result.stderr.contains("No space left") && result.stderr.contains("was removed"), "\(result.stderr)")
    #expect(!result.stderr.contains("are kept") && !FileManager.default.fileExists(atPath: mount + "/t.iotrace"))
    let full = try run(
      traceRecord, ["import", "-", "-o", output], environment: ["TMPDIR": mount], input: String(contentsOfFile: log, encoding: .utf8))
    #expect(full.status == 1 && full.stderr.contains("TMPDIR"), "\(full.stderr)")
  }
}
