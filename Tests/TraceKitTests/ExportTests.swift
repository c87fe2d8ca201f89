import Foundation
import Testing

@testable import TraceKit

/// Exports: what they write, what they say is lost, and that the other tool accepts it.
@Suite struct ExportTests {
  private func export(
    _ events: [TraceEvent], files: [TraceFile], version: Int = 3
  ) throws -> (report: ExportReport, lines: [String]) {
    let folder = Folder()
    let writer = try TraceWriter(path: folder("t"), metadata: TraceMetadata(source: "generated"))
    for file in files { _ = writer.addFile(file) }
    for event in events { try writer.append(event) }
    try writer.finish()
    var options = TraceExport.Options()
    options.fioVersion = version
    let report = try TraceExport.run(trace: folder("t"), format: "fio", output: folder("log"), options: options)
    return (report, String(decoding: bytes(of: folder("log")), as: UTF8.self).split(separator: "\n").map(String.init))
  }

  private func file(_ path: String) -> TraceFile { TraceFile(path: Array(path.utf8), kind: .regular) }

  @Test func eachFileIsAddedAndOpenedFirstAndClosedLast() throws {
    let (report, lines) = try export(
      [
        TraceEvent(startNanoseconds: 5_000_000, operation: .read, file: 0, offsetBytes: 0, sizeBytes: 512),
        TraceEvent(startNanoseconds: 5_003_000, operation: .write, file: 1, offsetBytes: 512, sizeBytes: 512),
        TraceEvent(startNanoseconds: 5_009_999, operation: .fdatasync, file: 1),
        TraceEvent(startNanoseconds: 5_010_000, operation: .fsync, file: 0),
        TraceEvent(startNanoseconds: 5_020_000, operation: .discard, file: 0, offsetBytes: 4096, sizeBytes: 4096),
      ], files: [file("/a"), file("/b"), file("/unused")])
    #expect(
      lines == [
        "fio version 3 iolog", "1 /a add", "1 /a open", "1 /a read 0 512", "4 /b add", "4 /b open", "4 /b write 512 512",
        "10 /b datasync 0 0", "10 /b close", "11 /a sync 0 0", "21 /a trim 4096 4096", "21 /a close",
      ])
    #expect(report.lost.isEmpty && report.changed.isEmpty && report.files == 2)
  }

  @Test func version2WaitsInMillisecondsSinceTheStart() throws {
    let (_, lines) = try export(
      [0, 900_000, 3_000_000, 3_100_000].map {
        TraceEvent(startNanoseconds: $0, operation: .read, file: 0, offsetBytes: 0, sizeBytes: 512)
      },
      files: [file("/a")], version: 2)
    #expect(
      lines == [
        "fio version 2 iolog", "/a add", "/a open", "/a read 0 512", "/a read 0 512", "/a wait 3 0", "/a read 0 512", "/a read 0 512",
        "/a close",
      ])
  }

  @Test func everythingThatIsLostIsSaid() throws {
    let (report, lines) = try export(
      [
        TraceEvent(startNanoseconds: 0, operation: .read, file: 0, offsetBytes: 0, sizeBytes: 512, latencyNanoseconds: 5, result: -5),
        TraceEvent(startNanoseconds: 1, operation: .read, file: 0, sizeBytes: 512),
        TraceEvent(startNanoseconds: 2, operation: .read, file: 0, offsetBytes: 0),
        TraceEvent(startNanoseconds: 3, operation: .read, offsetBytes: 0, sizeBytes: 512),
        TraceEvent(startNanoseconds: 4, operation: .read, file: 99, offsetBytes: 0, sizeBytes: 512),
        TraceEvent(startNanoseconds: 5, operation: .read, file: 0, offsetBytes: 0, sizeBytes: 512, result: 0),
        TraceEvent(startNanoseconds: 6, operation: .rename, file: 0, otherFile: 0),
        TraceEvent(startNanoseconds: 7, operation: .gap),
        TraceEvent(startNanoseconds: 8, operation: .open, file: 0),
        TraceEvent(
          startNanoseconds: 9, operation: .read, file: 0, offsetBytes: 0, sizeBytes: 512, latencyNanoseconds: 5, result: 100, processID: 1,
          threadID: 2, flags: .direct),
      ], files: [file("/a")])
    #expect(lines.count == 5 && lines[3] == "1 /a read 0 100")
    #expect(
      report.lost == [
        "failed requests and their errno": 1, "requests whose offset is not known": 1, "requests whose size is not known": 1,
        "requests whose file is not known": 2, "requests that moved nothing": 1, "operations without a counterpart: rename": 1, "gaps": 1,
        "open and close (see above)": 1, "latencies": 1, "process and thread numbers": 1, "flags of requests": 1,
      ])
    #expect(report.changed.count == 1)
  }

  @Test func anFsyncOfADirectoryIsNotForFio() throws {
    let (report, lines) = try export(
      [TraceEvent(startNanoseconds: 0, operation: .fsync, file: 0)], files: [TraceFile(path: Array("/d".utf8), kind: .directory)])
    #expect(lines == ["fio version 3 iolog"])
    #expect(report.lost == ["requests on what fio can't open: directory": 1])
  }

  @Test func longRequestsAreSplitAndOddNamesRewritten() throws {
    let long = String(repeating: "x", count: 300)
    let (report, lines) = try export(
      [
        TraceEvent(startNanoseconds: 0, operation: .discard, file: 0, offsetBytes: 0, sizeBytes: 5 << 30),
        TraceEvent(startNanoseconds: 0, operation: .read, file: 1, offsetBytes: 0, sizeBytes: 1),
        TraceEvent(startNanoseconds: 0, operation: .read, file: 2, offsetBytes: 0, sizeBytes: 1),
        TraceEvent(startNanoseconds: 0, operation: .read, file: 3, offsetBytes: 0, sizeBytes: 1),
      ], files: [file("/with blank\n"), file(long + "1"), file(long + "2"), file("")])
    #expect(lines.filter { $0.contains(" trim ") }.count == 5)
    #expect(lines.filter { $0.contains(" trim ") }.last == "1 /with%20blank%0A trim 4294967296 1073741824")
    let names = Set(lines.dropFirst().map { $0.split(separator: " ")[1] })
    #expect(names.count == 4 && names.allSatisfy { $0.count <= 256 })
    #expect(report.renamed.count == 4)
    #expect(!report.text.contains("\u{1b}"))
  }

  @Test func anImportOfAnExportIsTheSame() throws {
    let folder = Folder()
    var log = "fio version 3 iolog\n1 /a add\n1 /b add\n1 /a open\n1 /b open\n"
    var random = SplitMix(seed: 21)
    for i in 1...3_000 {
      log += "\(i) /\(Bool.random(using: &random) ? "a" : "b") \(["read", "write", "trim"].randomElement(using: &random)!) \(i * 512) 512\n"
    }
    write(Array(log.utf8), folder("log"))
    _ = try TraceImport.run(inputs: [folder("log")], output: folder("t"))
    _ = try TraceExport.run(trace: folder("t"), format: "fio", output: folder("log2"))
    _ = try TraceImport.run(inputs: [folder("log2")], output: folder("t2"))
    let transfers = { (path: String) throws -> [String] in
      let reader = try TraceReader(path: path)
      return try readAll(reader).filter { $0.operation != .open && $0.operation != .close }.map {
        "\($0.startNanoseconds) \($0.operation) \(reader.files[Int($0.file)].displayPath) \($0.offsetBytes) \($0.sizeBytes)"
      }
    }
    let same = try transfers(folder("t")) == transfers(folder("t2"))
    #expect(same)
  }

  @Test(.enabled(if: programOnPath("fio") != nil, "fio is not installed"), arguments: [3, 2])
  func fioReplaysAnExportedLog(version: Int) throws {
    let folder = Folder()
    var events: [TraceEvent] = []
    for i in 0..<200 {
      let file = UInt32(i % 3)
      events.append(
        TraceEvent(
          startNanoseconds: Int64(i) * 20_000, operation: .write, file: file, offsetBytes: UInt64(i / 3) * 4096, sizeBytes: 4096,
          latencyNanoseconds: 900,
          result: 4096, processID: 5, threadID: 5))
    }
    for i in 0..<100 {
      events.append(
        TraceEvent(
          startNanoseconds: 4_000_000 + Int64(i) * 20_000, operation: .read, file: 1, offsetBytes: UInt64(i % 60) * 4096, sizeBytes: 4096))
    }
    events.append(TraceEvent(startNanoseconds: 6_100_000, operation: .fsync, file: 1))
    let writer = try TraceWriter(path: folder("t"), metadata: TraceMetadata(source: "generated"))
    for name in ["one", "two", "with blank"] { _ = writer.addFile(TraceFile(path: Array(folder(name).utf8), kind: .regular)) }
    for event in events { try writer.append(event) }
    try writer.finish()
    var options = TraceExport.Options()
    options.fioVersion = version
    _ = try TraceExport.run(trace: folder("t"), format: "fio", output: folder("log"), options: options)
    let fio = Process()
    fio.executableURL = URL(fileURLWithPath: try #require(programOnPath("fio")))
    fio.arguments = [
      "--name=replay", "--read_iolog=" + folder("log"), "--ioengine=psync", "--output-format=json", "--output=" + folder("json"),
    ]
    fio.currentDirectoryURL = URL(fileURLWithPath: folder.path)
    fio.standardError = FileHandle.nullDevice
    try fio.run()
    fio.waitUntilExit()
    #expect(fio.terminationStatus == 0)
    let json = try JSONSerialization.jsonObject(with: Data(bytes(of: folder("json")))) as? [String: Any]
    let job = try #require((json?["jobs"] as? [[String: Any]])?.first)
    #expect((job["read"] as? [String: Any])?["total_ios"] as? Int == 100)
    #expect((job["write"] as? [String: Any])?["total_ios"] as? Int == 200)
    #expect((job["write"] as? [String: Any])?["io_bytes"] as? Int == 200 * 4096)
    #expect(job["error"] as? Int == 0)
    #expect(bytes(of: folder("with%20blank")).count == 66 * 4096)
  }
}
