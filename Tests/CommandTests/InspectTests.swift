import Foundation
import Testing

@testable import TraceKit

/// info, dump, verify, recover, import and export as commands: what they print and how they end.
@Suite struct InspectTests {
  private let golden = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Golden"

  private func text(_ path: String) -> String { String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self) }

  private func object(_ json: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
  }

  /// A trace of 1,000 writes, 1 ms apart, by two threads, with an error among them.
  private func sample(_ path: String) throws {
    let writer = try TraceWriter(path: path, metadata: TraceMetadata(source: "generated"))
    _ = writer.addFile(TraceFile(path: Array("/data/a,b \"c\"\n\u{1b}[31m".utf8), kind: .regular))
    for i in 0..<1_000 {
      try writer.append(
        TraceEvent(
          startNanoseconds: 7_000_000 + Int64(i) * 1_000_000, operation: i % 4 == 0 ? .read : .write, file: 0,
          offsetBytes: UInt64(i) * 4096,
          sizeBytes: 4096, latencyNanoseconds: Int64(i + 1) * 1000, result: i == 500 ? -28 : 4096, processID: 10,
          threadID: 10 + Int32(i % 2)))
    }
    try writer.finish()
  }

  @Test func infoShowsTheFiguresAndTheJSONHasStableKeys() throws {
    let folder = try TemporaryFolder()
    try sample(folder / "t")
    let shown = try run(traceRecord, ["info", folder / "t"])
    #expect(shown.status == 0 && shown.stderr.isEmpty)
    for words in ["lossless    yes", "1000 on 1 files, 2 threads of 1 processes", "1 × No space left on device", "p99.9", "4.00 KiB"] {
      #expect(shown.stdout.contains(words), "\(words) is missing in \(shown.stdout)")
    }
    #expect(!shown.stdout.contains("\u{1b}"))
    let result = try run(traceRecord, ["info", folder / "t", "--json", "-"])
    let json = try object(result.stdout)
    #expect(json["events"] as? Int == 1000 && json["reads"] as? Int == 250 && json["writes"] as? Int == 750)
    #expect(json["span_ns"] as? Int == 1_000_000_000 && json["lossless"] as? Bool == true && json["gap_count"] as? Int == 0)
    #expect(json["bytes_written"] as? Int == 750 * 4096 && json["errors"] as? Int == 1)
    let latency = try #require(json["latency"] as? [String: Any])
    let median = try #require(latency["p50_ns"] as? Int)
    #expect(abs(median - 500_000) <= 5_000)
    #expect(latency["max_ns"] as? Int == 1_000_000)
    #expect((json["metadata"] as? [String: Any])?["epoch_unix_ns"] is NSNull)
    #expect((json["files"] as? [[String: Any]])?.first?["path"] as? String == "/data/a,b \"c\"\\x0a\\x1b[31m")
  }

  @Test(arguments: ["empty", "two-reads", "every-field", "unsorted", "scaled", "gaps"])
  func dumpPrintsTheGoldenCSV(name: String) throws {
    let result = try run(traceRecord, ["dump", "--csv", "\(golden)/\(name).iotrace"])
    let same = result.stdout == text("\(golden)/\(name).csv")
    #expect(same && result.status == 0 && result.stderr.isEmpty)
  }

  @Test func dumpOfAnUnclosedTraceWarns() throws {
    let result = try run(traceRecord, ["dump", "--csv", "\(golden)/unclosed.iotrace"])
    let same = result.stdout == text("\(golden)/unclosed.csv")
    #expect(same && result.status == 0)
    #expect(result.stderr.contains("warning") && result.stderr.contains("not closed"))
  }

  @Test func dumpTakesATimeWindowRelativeToTheFirstEvent() throws {
    let folder = try TemporaryFolder()
    try sample(folder / "t")
    let lines = { (arguments: [String]) throws in
      try run(traceRecord, ["dump", "--csv", folder / "t"] + arguments).stdout.split(separator: "\r\n").count - 1
    }
    #expect(try lines([]) == 1000)
    #expect(try lines(["--from", "10ms", "--to", "20ms"]) == 10)
    #expect(try lines(["--from", "0.9995"]) == 0)
    #expect(try lines(["--from", "0.5s"]) == 500)
    #expect(try lines(["--to", "1500us"]) == 2)
    let csv = try run(traceRecord, ["dump", "--csv", folder / "t", "--to", "1us"]).stdout
    #expect(csv.hasSuffix("7000000,1000,read,\"/data/a,b \"\"c\"\"\\x0a\\x1b[31m\",0,4096,4096,10,10,\r\n"))
    let people = try run(traceRecord, ["dump", folder / "t", "--from", "500ms", "--to", "501ms"]).stdout
    #expect(people.contains("offset 2048000, size 4096) = -28 (No space left on device) <501 µs>"))
  }

  @Test func aDamagedTraceIsShownNamedAndRecovered() throws {
    let folder = try TemporaryFolder()
    try sample(folder / "t")
    var data = try Data(contentsOf: URL(fileURLWithPath: folder / "t"))
    #expect(try run(traceRecord, ["verify", folder / "t"]).status == 0)
    data[data.count / 2] ^= 4
    try data.write(to: URL(fileURLWithPath: folder / "t"))
    let verified = try run(traceRecord, ["verify", folder / "t", "--json", "-"])
    #expect(verified.status == 1)
    let json = try object(verified.stdout)
    #expect(json["intact"] as? Bool == false && json["closed"] as? Bool == true)
    #expect((json["damages"] as? [[String: Any]])?.first?["lost_events"] as? Int == 1000)
    let info = try run(traceRecord, ["info", folder / "t"])
    #expect(info.status == 0 && info.stderr.contains("events 0–999 (1000) are lost"))
    let recovered = try run(traceRecord, ["recover", folder / "t", "-o", folder / "r"])
    #expect(recovered.status == 0 && recovered.stdout.contains("1000 events, marked by 1 gap events"))
    #expect(try run(traceRecord, ["verify", folder / "r"]).status == 0)
    #expect(try run(traceRecord, ["info", folder / "r"]).stdout.contains("damaged block"))
    #expect(try run(traceRecord, ["recover", folder / "t", "-o", folder / "r"]).status == 1)
    #expect(try run(traceRecord, ["recover", folder / "t", "-o", folder / "t", "--force"]).stderr.contains("the output is the input"))
    let same = try Data(contentsOf: URL(fileURLWithPath: folder / "t")) == data
    #expect(same)
  }

  @Test func badInputEndsWithOneSentenceAndStatus1() throws {
    let folder = try TemporaryFolder()
    try folder.write("empty", "")
    try folder.write("text", "hello\n")
    for command in ["info", "dump", "verify"] {
      for (path, words) in [
        (folder / "missing", "No such file"), (folder / "empty", "empty"), (folder / "text", "not a trace"),
        (folder.path, "not a regular file"),
      ] {
        let result = try run(traceRecord, [command, path])
        #expect(result.status == 1 && result.stdout.isEmpty, "\(command) \(path)")
        #expect(result.stderr.split(separator: "\n").count == 1 && result.stderr.contains(words), "\(result.stderr)")
      }
    }
  }

  @Test func wrongUsageEndsWithStatus2() throws {
    for arguments in [
      ["info"], ["nonsense"], ["info", "--files", "-1", "x"], ["dump", "x", "--from", "soon"], ["import", "x"],
      ["import", "x", "-o", "y", "--format", "z"],
      ["export", "x", "--to", "z", "-o", "y"], ["export", "x", "--to", "fio", "-o", "y", "--fio-version", "4"],
      ["import", "x", "-o", "y", "--fio-wait", "z"],
    ] {
      let result = try run(traceRecord, arguments)
      #expect(result.status == 2 && result.stdout.isEmpty && !result.stderr.isEmpty, "\(arguments)")
    }
    let help = try run(traceRecord, ["--help"])
    #expect(help.status == 0 && help.stdout.contains("2 wrong usage"))
  }

  @Test func importAndExportGoRoundAndSayWhatIsLost() throws {
    let folder = try TemporaryFolder()
    try folder.write("log", "fio version 3 iolog\n1 /a add\n1 /a open\n5 /a read 0 512\n9 /a frob 1 2\n9 /a close\n")
    let imported = try run(traceRecord, ["import", folder / "log", "-o", folder / "t"])
    #expect(imported.status == 0)
    for words in ["format      fio", "µs", "1 reads", "rejected    1", "log:5: ", "dropped     nothing"] {
      #expect(imported.stdout.contains(words), "\(words)")
    }
    let exported = try run(traceRecord, ["export", "--to", "fio", folder / "t", "-o", folder / "log2", "--json", "-"])
    #expect(exported.status == 0)
    #expect((try object(exported.stdout)["lost"] as? [String: Any])?.count == 1)
    #expect(text(folder / "log2") == "fio version 3 iolog\n5 /a add\n5 /a open\n5 /a read 0 512\n5 /a close\n")
    #expect(try run(traceRecord, ["import", folder / "log", "-o", folder / "t"]).status == 1)
    #expect(try run(traceRecord, ["import", folder / "log", "-o", folder / "log", "--force"]).status == 1)
    #expect(text(folder / "log").hasPrefix("fio version 3"))
    let unwritable = try run(traceRecord, ["import", folder / "log", "-o", "/proc/trace"])
    #expect(unwritable.status == 1 && unwritable.stderr.contains("/proc/trace: cannot create it"))
  }

  @Test func aReaderThatGoesAwayEndsTheDumpQuietly() throws {
    let folder = try TemporaryFolder()
    try sample(folder / "t")
    let result = try run(
      "/bin/sh",
      [
        "-c",
        "trap '' PIPE; '\(traceRecord)' dump '\(folder / "t")' | head -n 1; '\(traceRecord)' dump --csv '\(folder / "t")' | head -n 1",
      ])
    #expect(result.status == 0 && result.stderr.isEmpty)
    #expect(result.stdout.split(whereSeparator: \.isNewline).count == 2)
  }

  @Test func aSmallFileNeverTakesMuchMemory() throws {
    let folder = try TemporaryFolder()
    var bytes = Preamble(createdUnixNanoseconds: 0).encoded()
    // File rows far apart, a block that claims all events and columns that claim a lot.
    for (type, count, payload) in [
      (2, 1, [4, 0xFF, 0xFF, 0x7F, 0] as [UInt8]), (2, 1, [5, 0xFF, 0xFF, 0xFF, 0x7F, 0]),
      (3, 65_536, [2, 1, 0, 0x80, 0x80, 4, 1, 0, 3, 0, 0x80, 0x80, 4, 1, 1]), (3, 1, [1, 1, 2, 1, 1, 0xFF, 0xFF, 0x4F, 4, 0, 0, 0, 0]),
      (4, 1_000_000, [0]),
    ] as [(UInt8, UInt32, [UInt8])] {
      var header = BlockHeader(
        type: .events, count: 1, rawBytes: 1 << 26, firstTimeNanoseconds: 0, lastTimeNanoseconds: 0, firstEvent: 0, sequence: 0,
        continuesInOrder: true)
      header.type = type
      header.count = count
      header.storedBytes = UInt32(payload.count)
      header.payloadChecksum = payload.withUnsafeBytes { Checksum.crc32($0.baseAddress!, count: payload.count) }
      var encoded = [UInt8](repeating: 0, count: 64)
      encoded.withUnsafeMutableBytes { header.encode(into: $0.baseAddress!) }
      bytes += encoded + payload
    }
    try Data(bytes).write(to: URL(fileURLWithPath: folder / "t"))
    for command in ["info", "dump", "verify"] {
      let result = try run("/bin/sh", ["-c", "ulimit -v 400000; exec '\(traceRecord)' \(command) '\(folder / "t")' >/dev/null"])
      #expect(result.signal == nil && result.status <= 1, "\(command): \(result.status) \(result.stderr)")
    }
  }
}
