import Foundation
import Testing

@testable import TraceKit

/// Traces that were written once and must decode for ever, each with its dump as CSV beside it.
@Suite struct FormatGoldenTests {
  static let names = ["empty", "two-reads", "every-field", "unsorted", "scaled", "unclosed", "gaps"]

  private func dump(_ path: String, to output: String) throws {
    var dump = TraceDump(try TraceReader(path: path), style: .csv)
    try dump.write(to: OutputFile(path: output, overwrite: true))
  }

  @Test(arguments: names) func goldenTracesDecodeAsTheyAlwaysDid(name: String) throws {
    let folder = Folder()
    try dump("\(goldenFolder)/\(name).iotrace", to: folder("csv"))
    let same = bytes(of: folder("csv")) == bytes(of: "\(goldenFolder)/\(name).csv")
    #expect(same, "\(name): the dump is another one")
    let verification = try TraceVerification(path: "\(goldenFolder)/\(name).iotrace")
    #expect(verification.isIntact == (name != "unclosed"), "\(verification.text)")
  }

  @Test(.enabled(if: programOnPath("python3") != nil, "python3 is not installed"), arguments: names)
  func aReaderWrittenFromTheSpecificationAgrees(name: String) throws {
    let folder = Folder()
    _ = FileManager.default.createFile(atPath: folder("out"), contents: nil)
    let python = Process()
    python.executableURL = URL(fileURLWithPath: try #require(programOnPath("python3")))
    python.arguments = [packageRoot + "/Tests/Oracles/read_trace.py", "\(goldenFolder)/\(name).iotrace"]
    python.standardOutput = FileHandle(forWritingAtPath: folder("out"))
    try python.run()
    python.waitUntilExit()
    #expect(python.terminationStatus == 0)
    let same = bytes(of: folder("out")) == bytes(of: "\(goldenFolder)/\(name).csv")
    #expect(same, "\(name): the other reader sees other events")
  }

  @Test func theSpecificationsExampleIsTheGoldenFile() throws {
    let text = String(decoding: bytes(of: packageRoot + "/docs/trace-format.md"), as: UTF8.self)
    var shown: [UInt8] = []
    for line in text.split(separator: "\n") {
      // `00000040  49 4f …` with exactly the offset that comes next.
      let words = line.split(separator: " ")
      guard let first = words.first, first.count == 8, let offset = Int(first, radix: 16), offset == shown.count else { continue }
      for word in words.dropFirst() {
        guard word.count == 2, let byte = UInt8(word, radix: 16) else { break }
        shown.append(byte)
      }
    }
    let same = shown == bytes(of: goldenFolder + "/two-reads.iotrace")
    #expect(same, "docs/trace-format.md shows \(shown.count) bytes that are not those of two-reads.iotrace")
  }

  /// Writes the golden files anew: only with a new format. `IOTRACE_WRITE_GOLDEN=1 swift test --filter writeGoldenFiles`
  @Test(.enabled(if: ProcessInfo.processInfo.environment["IOTRACE_WRITE_GOLDEN"] != nil, "golden files are written once"))
  func writeGoldenFiles() throws {
    var random = SplitMix(seed: 20_261_121)
    let wild = arbitraryEvents(500, &random, wild: true).sorted { $0.startNanoseconds < $1.startNanoseconds }
    let tame = arbitraryEvents(3_000, &random, wild: false).sorted { $0.startNanoseconds < $1.startNanoseconds }
    try writeTrace([], goldenFolder + "/empty.iotrace", files: 0)
    try writeTwoReads(goldenFolder + "/two-reads.iotrace")
    try writeTrace(wild, goldenFolder + "/every-field.iotrace", blockEvents: 120)
    try writeTrace(tame.reversed(), goldenFolder + "/unsorted.iotrace", blockEvents: 500)
    try writeTrace(tame, goldenFolder + "/scaled.iotrace", blockEvents: 65_536)
    try writeTrace(Array(tame[..<400]), goldenFolder + "/unclosed.iotrace", close: false)
    try writeTrace(gaps(), goldenFolder + "/gaps.iotrace", files: 1)
    for name in Self.names { try dump("\(goldenFolder)/\(name).iotrace", to: "\(goldenFolder)/\(name).csv") }
  }

  /// The example of the specification.
  private func writeTwoReads(_ path: String) throws {
    var options = TraceWriter.Options()
    options.overwrite = true
    let writer = try TraceWriter(path: path, metadata: TraceMetadata(source: "generated"), options: options)
    _ = writer.addFile(TraceFile(path: Array("/a".utf8), kind: .regular, sizeBytes: 8192))
    try writer.append(
      TraceEvent(
        startNanoseconds: 1000, operation: .read, file: 0, offsetBytes: 0, sizeBytes: 4096, latencyNanoseconds: 700, result: 4096,
        processID: 7, threadID: 7))
    try writer.append(
      TraceEvent(
        startNanoseconds: 2500, operation: .read, file: 0, offsetBytes: 4096, sizeBytes: 4096, latencyNanoseconds: 650, result: 4096,
        processID: 7, threadID: 7))
    try writer.finish()
  }

  private func gaps() -> [TraceEvent] {
    GapCause.allCases.enumerated().flatMap { number, cause in
      [
        TraceEvent(startNanoseconds: Int64(number) * 1000, operation: .write, file: 0, offsetBytes: 0, sizeBytes: 1, result: -28),
        TraceEvent(
          startNanoseconds: Int64(number) * 1000 + 10, operation: .gap, sizeBytes: number % 2 == 0 ? 5 : TraceEvent.unknownSize,
          latencyNanoseconds: 500, result: cause.rawValue, processID: 9, threadID: 9 + Int32(number)),
      ]
    }
  }
}
