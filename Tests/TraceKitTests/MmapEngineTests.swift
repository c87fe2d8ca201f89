import CTrace
import Foundation
import Testing

@testable import TraceKit

@Suite struct MmapEngineTests {
  let folder = Folder()

  @Test func loadsAndStoresWhatReadAndWriteWould() throws {
    let file = EngineFile(folder("f"), bytes: 1_000_000)
    var engine = MmapEngine(file.configuration())
    var expected = file.content
    var random = SplitMix(seed: 5)
    for round in 0..<300 {
      let offset = Int.random(in: 0..<1_100_000, using: &random)
      let length = Int.random(in: 0..<30_000, using: &random)
      if round % 2 == 0 {
        let result = Int(engine.queue(file.operation(.read, offset, length), slot: 0).rawValue)
        let end = max(offset, min(expected.count, offset + length))
        #expect(result == end - offset)
        let same = file.bytes(result) == expected[min(offset, expected.count)..<max(min(offset, expected.count), end == offset ? 0 : end)]
        #expect(same || result == 0)
      } else {
        let data = random.data(length)
        file.fill(data)
        #expect(engine.queue(file.operation(.write, offset, length), slot: 0) == .completed(Int64(length)))
        if length > 0 {
          if expected.count < offset + length { expected.append(Data(count: offset + length - expected.count)) }
          expected.replaceSubrange(offset..<offset + length, with: data)
        }
      }
      if round % 50 == 0 { #expect(engine.queue(file.operation(.fsync, 0, 0), slot: 0) == .completed(0)) }
    }
    let same = file.content == expected
    #expect(same)
  }

  @Test func aFileThatAnotherTruncatesIsReadShortAndWrittenOn() throws {
    let file = EngineFile(folder("f"), bytes: 1 << 20)
    var engine = MmapEngine(file.configuration())
    #expect(engine.queue(file.operation(.read, 900_000, 4096), slot: 0) == .completed(4096))
    truncate(file.path, 10_000)
    #expect(engine.queue(file.operation(.read, 900_000, 4096), slot: 0) == .completed(0))
    #expect(engine.queue(file.operation(.read, 9000, 4096), slot: 0) == .completed(1000))
    #expect(engine.queue(file.operation(.write, 900_000, 4096), slot: 0) == .completed(4096))
    #expect(file.content.count == 904_096)
    truncate(file.path, 1)
    #expect(engine.queue(file.operation(.fsync, 0, 0), slot: 0) == .completed(0))
  }

  /// What the engine falls back on when the end moves between asking for it and copying.
  @Test func aCopyBeyondTheEndOfAMappingFailsAndDoesNotKill() throws {
    let file = EngineFile(folder("f"), bytes: 4096)
    ctrace_catch_bus_errors()
    let mapping = try #require(ctrace_map_file(file.descriptor, 0, 1 << 20, 1))
    defer { munmap(mapping, 1 << 20) }
    for _ in 0..<3 {
      #expect(ctrace_guarded_copy(file.memory, mapping, 8192) == -1)
      #expect(ctrace_guarded_copy(mapping + 8192, file.memory, 1) == -1)
      #expect(ctrace_guarded_copy(file.memory, mapping, 4096) == 0)
    }
  }

  @Test func moreFilesThanMappingsAndOffsetsBeyondTheWholeAreReached() throws {
    let files = (0..<1100).map { EngineFile(folder("f\($0)"), bytes: 4096, largestBytes: 4096, seed: UInt64($0)) }
    var configuration = files[0].configuration()
    configuration.descriptors = files.flatMap { [$0.descriptor, -1] }
    var engine = MmapEngine(configuration)
    for _ in 0..<2 {
      for (i, file) in files.enumerated() {
        var operation = file.operation(.read, 0, 4096)
        operation.fileIndex = Int32(i * 2)
        #expect(engine.queue(operation, slot: 0) == .completed(4096))
        let same = file.bytes(4096) == file.content
        #expect(same)
      }
    }
    for offset in [1 << 41, (1 << 41) + (1 << 30) - 100] {
      var operation = files[0].operation(.write, offset, 4096)
      operation.fileIndex = 0
      #expect(engine.queue(operation, slot: 0) == .completed(4096))
      operation.kind = .read
      #expect(engine.queue(operation, slot: 0) == .completed(4096))
    }
  }
}
