import Foundation
import Testing

@testable import TraceKit

/// Imports of foreign formats: totals of real samples, and lines of every shape.
@Suite struct ImportTests {
  private func importText(_ text: String, _ options: TraceImport.Options = .init()) throws -> (
    report: ImportReport, events: [TraceEvent], files: [String]
  ) {
    let folder = Folder()
    write(Array(text.utf8), folder("in"))
    let report = try TraceImport.run(inputs: [folder("in")], output: folder("out"), options: options)
    let reader = try TraceReader(path: folder("out"))
    #expect(try TraceVerification(path: folder("out")).isIntact)
    return (report, try readAll(reader), reader.files.map(\.displayPath))
  }

  // MARK: Samples

  @Test(.enabled(if: hasSample("libcachesim/cloudPhysicsIO.vscsi"), "no sample traces; set TRACE_SAMPLES"))
  func cloudPhysicsHasItsTotals() throws {
    let folder = Folder()
    let report = try TraceImport.run(inputs: ["\(samplesFolder)/libcachesim/cloudPhysicsIO.vscsi"], output: folder("t"))
    #expect(report.format == "vscsi")
    #expect(report.requests == 113_872)
    #expect(report.writes == 66_898)
    #expect(report.bytesWritten == 2_408_565_760)
    #expect(report.reads == 46_974)
    #expect(report.bytesRead == 1_797_412_352)
    #expect(report.outOfOrder == 0 && report.rejected == 0 && report.dropped.isEmpty)
    #expect(report.spanNanoseconds / 10_000_000 == 720_008)
    #expect(Double(report.traceBytes) / Double(report.requests) <= 3.3)
    let events = try readAll(TraceReader(path: folder("t")))
    #expect(Set(events.map(\.offsetBytes)).count == 48_974)
  }

  @Test(.enabled(if: hasSample("fio-iolog/t0038.iolog"), "no sample traces; set TRACE_SAMPLES"))
  func fiosOwnRegressionLogHasItsTotals() throws {
    let folder = Folder()
    let report = try TraceImport.run(inputs: ["\(samplesFolder)/fio-iolog/t0038.iolog"], output: folder("t"))
    let events = try readAll(TraceReader(path: folder("t")))
    #expect(report.rejected == 0)
    #expect(events.filter { $0.operation == .discard && $0.sizeBytes == 2_147_483_648 }.count == 10)
    #expect(events.filter { $0.operation == .write && $0.sizeBytes == 4096 }.count == 10)
    #expect(events.map(\.operation).first == .open && events.map(\.operation).last == .close)
  }

  @Test(.enabled(if: hasSample("strace-local/fio3.iolog"), "no sample traces; set TRACE_SAMPLES"))
  func aLogWrittenByFioHasItsTotals() throws {
    let folder = Folder()
    let report = try TraceImport.run(inputs: ["\(samplesFolder)/strace-local/fio3.iolog"], output: folder("t"))
    #expect(report.reads == 29 && report.writes == 35 && report.rejected == 0)
    #expect(try readAll(TraceReader(path: folder("t"))).filter { $0.operation == .fsync }.count == 8)
  }

  // MARK: fio

  @Test func everyActionOfVersion3() throws {
    let (report, events, files) = try importText(
      """
      fio version 3 iolog
      1 /a add
      2 /a open
      3 /a read 4096 512
      4\t/a   write 0 4294967295
      5 /a trim 8192 4096
      6 /a sync
      7 /a datasync 0 0
      8 /a close
      """)
    #expect(report.rejected == 0 && report.dropped.isEmpty)
    #expect(events.map(\.operation) == [.open, .read, .write, .discard, .fsync, .fdatasync, .close])
    #expect(events.map(\.startNanoseconds) == [2000, 3000, 4000, 5000, 6000, 7000, 8000])
    #expect(events[1].offsetBytes == 4096 && events[1].sizeBytes == 512)
    #expect(events[1].latencyIfKnown == nil && events[1].threadIfKnown == nil && events[1].resultIfKnown == nil)
    #expect(events[4].offsetIfKnown == nil)
    #expect(files == ["/a"])
  }

  @Test func waitsOfVersion2AreMillisecondsSinceTheStartUnlessAsked() throws {
    let log = "fio version 2 iolog\n/a add\n/a open\n/a wait 3\n/a read 0 512\n/a wait 5 0\n/a write 0 512\n"
    #expect(try importText(log).events.map(\.startNanoseconds) == [0, 3_000_000, 5_000_000])
    var options = TraceImport.Options()
    options.fioWait = .microsecondsSincePrevious
    #expect(try importText(log, options).events.map(\.startNanoseconds) == [0, 3_000, 8_000])
  }

  @Test func anAppendedLogHasSeveralHeaders() throws {
    let (report, events, _) = try importText(
      "fio version 3 iolog\n1 /a add\n2 /a read 0 512\nfio version 3 iolog\n1 /a add\n5 /a read 512 512\n")
    #expect(events.count == 2 && report.rejected == 0)
    #expect(report.dropped == ["repeated_header": 1, "repeated_add": 1])
  }

  @Test func linesThatMakeNoSenseAreCountedAndShown() throws {
    let long = String(repeating: "x", count: 5_000)
    let name = String(repeating: "n", count: 257)
    let (report, events, _) = try importText(
      """
      fio version 3 iolog
      x /a read 0 1
      1 /a read 0
      1 /a read 0 4294967296
      1 /a read 9223372036854775808 1
      1 /a read 0 1 1
      1 /a wait 3 0
      1 /a flush
      1 /a
      18446744073709551615 /a read 0 1
      1 \(long) read 0 1
      1 \(name) read 0 1
      1 /a read -1 1

      2 /a read 0 1
      """)
    #expect(events.count == 1)
    #expect(report.rejected == 12)
    #expect(report.rejections.count == ImportReport.keptRejections)
    #expect(report.rejections.first?.number == 2)
    #expect(report.rejections.map(\.number) == Array(2...11))
    #expect(report.text.contains("longer than 4095"))
  }

  @Test func namesWithControlCharactersNeverReachTheReport() throws {
    let (report, events, files) = try importText("fio version 3 iolog\n1 /a\u{1b}[31m read 0 1\n1 /b\u{1b}[0m frob\n")
    #expect(events.count == 1 && files == ["/a\\x1b[31m"])
    #expect(!report.text.contains("\u{1b}"))
  }

  @Test func linesOutOfOrderAreSorted() throws {
    var random = SplitMix(seed: 9)
    var text = "fio version 3 iolog\n1 /a add\n"
    var times: [Int64] = []
    for i in 0..<2_000 {
      let time = Int64(max(1, i * 10 + Int.random(in: -200...200, using: &random)))
      times.append(time * 1000)
      text += "\(time) /a read \(i * 512) 512\n"
    }
    let (report, events, _) = try importText(text)
    let sorted = events.map(\.startNanoseconds) == times.sorted()
    #expect(sorted)
    #expect(report.outOfOrder > 500 && report.unsorted == 0)
  }

  @Test func windowsLineEndsAndAMissingLastOneAreFine() throws {
    let (report, events, _) = try importText("fio version 3 iolog\r\n1 /a add\r\n2 /a read 0 512\r\n3 /a write 0 512")
    #expect(events.count == 2 && report.rejected == 0)
  }

  @Test func severalInputsAreMergedByTime() throws {
    let folder = Folder()
    write(Array("fio version 3 iolog\n1 /a read 0 1\n5 /a read 1 1\n9 /a read 2 1\n".utf8), folder("1"))
    write(Array("fio version 3 iolog\n2 /b read 0 1\n3 /a read 0 2\n".utf8), folder("2"))
    let report = try TraceImport.run(inputs: [folder("1"), folder("2")], output: folder("t"))
    #expect(try readAll(TraceReader(path: folder("t"))).map(\.startNanoseconds) == [1000, 2000, 3000, 5000, 9000])
    #expect(report.files == 2 && report.outOfOrder == 0)
  }

  // MARK: vscsi

  private func record1(_ command: UInt16, length: UInt32, sector: UInt64, microseconds: UInt64, version: UInt16 = 0x0100) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendLittleEndian(UInt32(7))
    bytes.appendLittleEndian(length)
    bytes.appendLittleEndian(UInt32(1))
    bytes.appendLittleEndian(command)
    bytes.appendLittleEndian(version)
    bytes.appendLittleEndian(sector)
    bytes.appendLittleEndian(microseconds)
    return bytes
  }

  private func record2(_ command: UInt16, length: UInt32, sector: UInt64, microseconds: UInt64, response: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendLittleEndian(command)
    bytes.appendLittleEndian(UInt16(0x0200))
    bytes.appendLittleEndian(UInt32(7))
    bytes.appendLittleEndian(length)
    bytes.appendLittleEndian(UInt32(1))
    bytes.appendLittleEndian(sector)
    bytes.appendLittleEndian(microseconds)
    bytes.appendLittleEndian(response)
    return bytes
  }

  @Test func vscsiVersion1TakesEveryReadAndWriteAndDropsTheRestByKind() throws {
    let folder = Folder()
    let commands: [UInt16] = [0x08, 0x0A, 0x28, 0x2A, 0x88, 0x8A, 0xA8, 0xAA, 0x12, 0x35, 0x35]
    var bytes: [UInt8] = []
    for (i, command) in commands.enumerated() { bytes += record1(command, length: 512, sector: UInt64(i), microseconds: 1_000 + UInt64(i)) }
    bytes += record1(0x28, length: 1, sector: 1 << 60, microseconds: 2_000) + [1, 2, 3]
    write(bytes, folder("in"))
    let report = try TraceImport.run(inputs: [folder("in")], output: folder("t"))
    #expect(report.reads == 4 && report.writes == 4)
    #expect(report.dropped == ["scsi_0x12": 1, "scsi_0x35": 2])
    #expect(report.rejected == 2)
    let events = try readAll(TraceReader(path: folder("t")))
    #expect(events.map(\.startNanoseconds) == (0..<8).map { Int64($0) * 1000 })
    #expect(events.map(\.offsetBytes) == (0..<8).map { UInt64($0) * 512 })
  }

  @Test func vscsiVersion2CarriesResponseTimes() throws {
    let folder = Folder()
    write(
      record2(0x2A, length: 4096, sector: 8, microseconds: 1_700_000_000_000_000, response: 250)
        + record2(0x28, length: 512, sector: 9, microseconds: 1_700_000_000_000_010, response: .max), folder("in"))
    let report = try TraceImport.run(inputs: [folder("in")], output: folder("t"))
    #expect(report.requests == 2)
    let reader = try TraceReader(path: folder("t"))
    let events = try readAll(reader)
    #expect(events[0].latencyNanoseconds == 250_000 && events[1].latencyIfKnown == nil)
    #expect(reader.metadata.epochUnixNanoseconds == 1_700_000_000_000_000_000)
  }

  // MARK: Recognition

  @Test func formatsAreRecognisedByContentOnly() throws {
    let folder = Folder()
    write(record1(0x28, length: 512, sector: 0, microseconds: 1), folder("log.iolog"))
    #expect(try TraceImport.run(inputs: [folder("log.iolog")], output: folder("t1")).format == "vscsi")
    write(Array("fio version 3 iolog\n".utf8), folder("disk.vscsi"))
    #expect(try TraceImport.run(inputs: [folder("disk.vscsi")], output: folder("t2")).format == "fio")
    var options = TraceImport.Options()
    options.format = "vscsi"
    let wrong = #expect(throws: TraceError.self) {
      try TraceImport.run(inputs: [folder("disk.vscsi")], output: folder("t3"), options: options)
    }
    #expect(wrong?.message.contains("looks like 'fio'") == true)
    write(Array("version 1 of nothing\n".utf8), folder("text"))
    #expect(throws: TraceError.self) { try TraceImport.run(inputs: [folder("text")], output: folder("t4")) }
    #expect(throws: TraceError.self) { try TraceImport.run(inputs: [folder("t1")], output: folder("t5")) }
    #expect(throws: TraceError.self) { try TraceImport.run(inputs: [folder("log.iolog"), folder("disk.vscsi")], output: folder("t6")) }
    #expect(!FileManager.default.fileExists(atPath: folder("t3")), "a refused import leaves no file")
  }

  @Test func noInputMakesAnImporterFail() throws {
    let folder = Folder()
    var random = SplitMix(seed: 12)
    for round in 0..<500 {
      var bytes = round % 2 == 0 ? Array("fio version 3 iolog\n".utf8) : record1(0x28, length: 1, sector: 1, microseconds: 1)
      for _ in 0..<Int.random(in: 0...400, using: &random) {
        bytes.append(
          round % 4 == 0 ? UInt8.random(in: 0...255, using: &random) : Array(" 0189\n/areadwrite".utf8).randomElement(using: &random)!)
      }
      write(bytes, folder("in"))
      var options = TraceImport.Options()
      options.writer.overwrite = true
      _ = try? TraceImport.run(inputs: [folder("in")], output: folder("out"), options: options)
    }
  }
}
