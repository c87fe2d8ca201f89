import Foundation
import Testing

@testable import TraceKit

/// A folder of its own for each test, removed at its end.
final class Folder {
  let path: String
  init() {
    path = NSTemporaryDirectory() + "tracekit-" + UUID().uuidString
    try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }
  func callAsFunction(_ name: String) -> String { path + "/" + name }
}

func readAll(_ reader: TraceReader) throws -> [TraceEvent] {
  let batch = EventBatch(capacity: 777)
  var all: [TraceEvent] = []
  while try reader.next(into: batch) { all += batch.buffer }
  return all
}

/// Events of any shape: unknown fields, huge and negative values, several threads, files and operations.
func arbitraryEvents(_ count: Int, _ random: inout some RandomNumberGenerator, wild: Bool) -> [TraceEvent] {
  var start: Int64 = Int64.random(in: -1_000_000...1_000_000, using: &random)
  return (0..<count).map { i in
    start &+= Int64.random(in: 0...5_000, using: &random)
    func maybe<T>(_ value: T, _ unknown: T) -> T { wild && Int.random(in: 0..<4, using: &random) == 0 ? unknown : value }
    let unit: UInt64 = wild ? 1 : 512
    return TraceEvent(
      startNanoseconds: wild && i % 97 == 0 ? Int64.random(in: Int64.min...Int64.max, using: &random) : start,
      operation: TraceOperation.allCases.randomElement(using: &random)!,
      file: maybe(UInt32.random(in: 0...9, using: &random), TraceEvent.unknownFile),
      offsetBytes: maybe(
        wild ? UInt64.random(in: 0...UInt64.max, using: &random) : UInt64.random(in: 0...1 << 30, using: &random) * unit, .max),
      sizeBytes: maybe(wild ? UInt64.random(in: 0...UInt64.max, using: &random) : UInt64.random(in: 1...256, using: &random) * unit, .max),
      latencyNanoseconds: maybe(Int64.random(in: 0...(wild ? Int64.max : 1_000_000), using: &random), -1),
      result: maybe(wild ? Int64.random(in: Int64.min...Int64.max, using: &random) : 512, Int64.min),
      processID: maybe(Int32.random(in: 1...3, using: &random), -1), threadID: maybe(Int32.random(in: 1...5, using: &random), -1),
      flags: TraceEventFlags(rawValue: UInt32.random(in: 0...(wild ? UInt32.max : 3), using: &random)),
      otherFile: maybe(3, TraceEvent.unknownFile), request: maybe(UInt64.random(in: 0...UInt64.max, using: &random), .max))
  }
}

@Suite struct TraceRoundTripTests {
  @Test(arguments: [1, 2, 3, 1000, 1024, 1025, 70_000], [true, false])
  func arbitraryEventsComeBackAsTheyWere(count: Int, wild: Bool) throws {
    let folder = Folder()
    for seed in 0..<(count > 10_000 ? 2 : 12) {
      var random = SplitMix(seed: UInt64(seed * 1000 + count))
      var events = arbitraryEvents(count, &random, wild: wild)
      var options = TraceWriter.Options()
      options.overwrite = true
      options.blockEvents = [1, 7, 1024, 65_536].randomElement(using: &random)!
      if count > 10_000 { options.blockEvents = 65_536 }
      let writer = try TraceWriter(path: folder("t"), metadata: TraceMetadata(source: "generated"), options: options)
      for event in events { try writer.append(event) }
      let totals = try writer.finish()
      #expect(totals.events == UInt64(count))
      // Each block is sorted by itself.
      for start in stride(from: 0, to: count, by: options.blockEvents) {
        let end = min(count, start + options.blockEvents)
        events[start..<end].sort { $0.startNanoseconds < $1.startNanoseconds }
      }
      let reader = try TraceReader(path: folder("t"))
      let back = try readAll(reader)
      #expect(reader.damages.isEmpty)
      let same = back == events
      #expect(same, "seed \(seed): the first difference is at \(zip(back, events).enumerated().first { $1.0 != $1.1 }?.offset ?? -1)")
      #expect(reader.totals == totals)
    }
  }

  @Test(arguments: [true, false])
  func fieldsOfColumnsThatAreNotWantedAreUnknownAndTheOthersAsTheyWere(wild: Bool) throws {
    let folder = Folder()
    var random = SplitMix(seed: 77)
    let writer = try TraceWriter(path: folder("t"), metadata: TraceMetadata(source: "generated"))
    for event in arbitraryEvents(5_000, &random, wild: wild) { try writer.append(event) }
    try writer.finish()
    let reader = try TraceReader(path: folder("t"))
    let whole = try readAll(reader)
    try reader.rewind()
    reader.wantedColumns = .outcomes.with(.file, .fileDictionary)
    let partial = try readAll(reader)
    #expect(reader.damages.isEmpty)
    let expected = whole.map { event in
      TraceEvent(
        startNanoseconds: 0, operation: event.operation, file: event.file, sizeBytes: event.sizeBytes,
        latencyNanoseconds: event.latencyNanoseconds, result: event.result, request: event.request)
    }
    let same = partial == expected
    #expect(same, "the first difference is at \(zip(partial, expected).enumerated().first { $1.0 != $1.1 }?.offset ?? -1)")
  }

  @Test func theDigestDoesNotDependOnBlocksOrCompression() throws {
    let folder = Folder()
    var random = SplitMix(seed: 5)
    let events = arbitraryEvents(5_000, &random, wild: false)
    var digests: Set<String> = []
    for (block, level) in [(100, 1), (65_536, 9), (4096, 6)] as [(Int, Int32)] {
      var options = TraceWriter.Options()
      options.blockEvents = block
      options.compressionLevel = level
      let writer = try TraceWriter(path: folder("t\(block)"), metadata: TraceMetadata(source: "generated"), options: options)
      for event in events { try writer.append(event) }
      digests.insert(try writer.finish().digest.hexadecimal)
    }
    #expect(digests.count == 1)
  }

  @Test func theReaderStartsAtAnEventOrATime() throws {
    let folder = Folder()
    var options = TraceWriter.Options()
    options.blockEvents = 100
    let writer = try TraceWriter(path: folder("t"), metadata: TraceMetadata(source: "generated"), options: options)
    for i in 0..<1_050 { try writer.append(TraceEvent(startNanoseconds: Int64(i) * 10, operation: .read)) }
    try writer.finish()
    let reader = try TraceReader(path: folder("t"))
    for number in [0, 1, 99, 100, 101, 555, 1_049] as [UInt64] {
      try reader.seek(toEvent: number)
      let rest = try readAll(reader)
      #expect(rest.first?.startNanoseconds == Int64(number) * 10)
      #expect(rest.count == 1_050 - Int(number))
    }
    try reader.seek(toTime: 5_005)
    let batch = EventBatch(capacity: 10)
    #expect(try reader.next(into: batch))
    #expect(batch.firstEvent == 500)
    try reader.seek(toTime: 1 << 40)
    #expect(try !reader.next(into: batch))
  }

  @Test func fileRowsComeBackAlsoWithOddNames() throws {
    let folder = Folder()
    let writer = try TraceWriter(path: folder("t"), metadata: TraceMetadata(source: "generated"))
    var rows: [TraceFile] = []
    for i in 0..<3_000 {
      var row = TraceFile(
        path: Array("/data/\(i)\n\u{1b}[31m".utf8) + [0xFF, 0], kind: .regular, device: 0x1_0000_0001, inode: UInt64(i),
        birthTimeNanoseconds: -5,
        sizeBytes: i % 2 == 0 ? nil : 0, openFlags: 2, filesystemType: 0xEF53, representedDevice: nil)
      row.id = writer.addFile(row)
      rows.append(row)
    }
    try writer.finish()
    #expect(try TraceReader(path: folder("t")).files == rows)
  }

  @Test func anExistingFileIsRefusedWithoutForce() throws {
    let folder = Folder()
    _ = FileManager.default.createFile(atPath: folder("t"), contents: Data("precious".utf8))
    #expect(throws: TraceError.self) { try TraceWriter(path: folder("t"), metadata: TraceMetadata(source: "generated")) }
    #expect(FileManager.default.contents(atPath: folder("t")) == Data("precious".utf8))
  }
}

/// A small generator with a seed, so that a failing case can be repeated.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
