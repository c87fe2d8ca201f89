import Foundation
import Testing

@testable import TraceKit

/// A trace is untrusted: nothing in it crashes the reader, holds it up or takes memory out of proportion.
@Suite struct FormatHostileTests {
  /// Reads everything there is; errors are welcome.
  private func exercise(_ path: String, verify: Bool) {
    if let reader = try? TraceReader(path: path) {
      _ = try? readAll(reader)
      try? reader.seek(toEvent: 30)
      try? reader.seek(toTime: 1000)
      _ = reader.warnings
    }
    guard verify else { return }
    _ = try? TraceVerification(path: path).text
    var options = TraceWriter.Options()
    options.overwrite = true
    _ = try? TraceRecovery.recover(from: path, to: path + ".recovered", options: options).text
  }

  @Test func twentyThousandMutatedTracesDoNoHarm() throws {
    let folder = Folder()
    var random = SplitMix(seed: 2026)
    let events = arbitraryEvents(60, &random, wild: true)
    try writeTrace(events, folder("original"), blockEvents: 20, files: 3)
    let original = bytes(of: folder("original"))
    let offsets = try blocks(of: folder("original")).map(\.offset)
    for round in 0..<20_000 {
      var mutated = original
      for _ in 0..<Int.random(in: 1...4, using: &random) { mutate(&mutated, &random) }
      // Half of them get past the checksums.
      if round % 2 == 0 { repairChecksums(&mutated, at: offsets) }
      write(mutated, folder("mutated"))
      exercise(folder("mutated"), verify: round % 20 == 0)
    }
  }

  private func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix) {
    guard bytes.count > 40 else { return }
    let position = Int.random(in: 0..<bytes.count - 8, using: &random)
    switch Int.random(in: 0..<6, using: &random) {
    case 0, 1: bytes[position] = UInt8.random(in: 0...255, using: &random)
    case 2: bytes[position] ^= 0x80
    case 3: for i in 0..<8 { bytes[position + i] = 0xFF }
    case 4: for i in 0..<4 { bytes[position + i] = UInt8.random(in: 0...255, using: &random) }
    default: if Int.random(in: 0..<8, using: &random) == 0 { bytes.removeLast(Int.random(in: 1...bytes.count / 2, using: &random)) }
    }
  }

  /// A preamble and one block with `payload` and right checksums.
  private func trace(type: UInt8, count: UInt32, payload: [UInt8], firstEvent: UInt64 = 0, claimedBytes: UInt32? = nil, blocks: Int = 1)
    -> [UInt8]
  {
    var all = Preamble(createdUnixNanoseconds: 0).encoded()
    for sequence in 0..<blocks {
      var header = BlockHeader(
        type: .events, count: 1, rawBytes: 0, firstTimeNanoseconds: 0, lastTimeNanoseconds: 0, firstEvent: firstEvent,
        sequence: UInt64(sequence),
        continuesInOrder: true)
      header.type = type
      header.count = count
      header.storedBytes = claimedBytes ?? UInt32(payload.count)
      header.payloadChecksum = payload.withUnsafeBytes { $0.baseAddress.map { Checksum.crc32($0, count: payload.count) } ?? 0 }
      var bytes = [UInt8](repeating: 0, count: 64)
      bytes.withUnsafeMutableBytes { header.encode(into: $0.baseAddress!) }
      all += bytes + payload
    }
    return all
  }

  private func varint(_ value: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    Varint.append(value, to: &bytes)
    return bytes
  }

  @Test func handMadeClaimsAreRefused() throws {
    let folder = Folder()
    let column: (UInt8, UInt8, [UInt64]) -> [UInt8] = { id, encoding, numbers in [id, encoding] + numbers.flatMap { self.varint($0) } }
    let start = column(1, 0, [1, 1, 0])
    let operation = column(3, 0, [1, 1, 1])
    let cases: [(String, [UInt8])] = [
      ("more events than a block may hold", trace(type: 3, count: .max, payload: [2] + start + operation)),
      ("more events than its columns have", trace(type: 3, count: 65_536, payload: [2] + start + operation)),
      ("no columns", trace(type: 3, count: 1, payload: [0])),
      ("no payload", trace(type: 3, count: 1, payload: [])),
      ("columns claimed and not there", trace(type: 3, count: 1, payload: [255])),
      ("a deflated column of a gigabyte", trace(type: 3, count: 1, payload: [1] + column(1, 2, [1, 1, 1 << 30, 4]) + [0, 0, 0, 0])),
      (
        "a deflated column longer than deflate can make",
        trace(type: 3, count: 1, payload: [1] + column(1, 2, [1, 1, 1_300_000, 4]) + [0, 0, 0, 0])
      ),
      ("a column twice", trace(type: 3, count: 1, payload: [3] + start + start + operation)),
      ("a scale of 0", trace(type: 3, count: 1, payload: [2] + column(1, 0, [1, 0, 0]) + operation)),
      (
        "a file beyond the dictionary",
        trace(type: 3, count: 1, payload: [4] + start + operation + column(16, 0, [1, 1, 0]) + column(5, 0, [1, 1, 9]))
      ),
      ("a dictionary of negative files", trace(type: 3, count: 1, payload: [3] + start + operation + column(16, 0, [1, 1, 1]))),
      ("half a thread", trace(type: 3, count: 1, payload: [3] + start + operation + column(17, 0, [1, 1, 1]))),
      ("the last event number", trace(type: 3, count: 1, payload: [2] + start + operation, firstEvent: .max)),
      ("more file rows than bytes", trace(type: 2, count: .max, payload: [2, 0, 1])),
      ("a file row beyond its block", trace(type: 2, count: 1, payload: [255, 255, 3, 0])),
      ("a row number of four billion", trace(type: 2, count: 1, payload: [5] + varint(4_000_000_000))),
      ("more stored bytes than the file has", trace(type: 3, count: 1, payload: [0], claimedBytes: 1 << 20)),
      ("more stored bytes than a block may have", trace(type: 3, count: 1, payload: [0], claimedBytes: .max)),
      ("JSON nested without end", trace(type: 1, count: 1, payload: [UInt8](repeating: 0x5B, count: 100_000))),
      ("a thousand headers that overlap", trace(type: 3, count: 1, payload: [], claimedBytes: 5_000, blocks: 1_000)),
      ("an index of nothing", trace(type: 4, count: .max, payload: [0])),
      ("a short end", trace(type: 5, count: 1, payload: [0])),
    ]
    for (name, bytes) in cases {
      write(bytes, folder("t"))
      let reader = try TraceReader(path: folder("t"))
      let events = try readAll(reader)
      #expect(events.isEmpty, "\(name): \(events.count) events")
      #expect(reader.files.count <= bytes.count, "\(name)")
      #expect(try !TraceVerification(path: folder("t")).isIntact, "\(name)")
    }
  }

  @Test func whatANewerMinorVersionAddsIsSkipped() throws {
    let folder = Folder()
    let json = Array(#"{"source":"preload","of_tomorrow":{"a":[1,2]},"clock":"monotonic"}"#.utf8)
    // Start, operation, and a column 99 in an encoding 7.
    let events: [UInt8] = [3, 1, 0, 1, 1, 0, 99, 7, 1, 1, 5, 2, 0xAA, 0xBB, 3, 0, 1, 1, 2]
    let rows: [UInt8] = [9, 0, 1, 1, 0x61, 77, 3, 1, 2, 3]
    var all = trace(type: 1, count: 1, payload: json)
    all += trace(type: 200, count: 5, payload: [1, 2, 3, 4]).dropFirst(32)
    all += trace(type: 2, count: 1, payload: rows).dropFirst(32)
    all += trace(type: 3, count: 1, payload: events).dropFirst(32)
    write(all, folder("t"))
    let reader = try TraceReader(path: folder("t"))
    let read = try readAll(reader)
    #expect(reader.damages.isEmpty)
    #expect(reader.metadata.source == "preload" && reader.metadata.clock == "monotonic")
    #expect(reader.files.map(\.path) == [[0x61]])
    #expect(read.count == 1 && read.first?.operation == .write)
    #expect(try TraceVerification(path: folder("t")).unknownBlocks == 1)
  }

  @Test func aNewerMajorVersionIsRefused() throws {
    let folder = Folder()
    write(Preamble(majorVersion: 2, minorVersion: 1, createdUnixNanoseconds: 0).encoded(), folder("t"))
    let error = #expect(throws: TraceError.self) { try TraceReader(path: folder("t")) }
    #expect(error?.kind == .unsupported)
    #expect(error?.message.contains("2.1") == true)
  }

  @Test func whatIsNoTraceIsSaid() throws {
    let folder = Folder()
    write([], folder("empty"))
    write(Array("hello, world, this is a text file and nothing else\n".utf8), folder("text"))
    for (path, words) in [
      (folder("missing"), "No such file"), (folder.path, "not a regular file"), (folder("empty"), "empty"), (folder("text"), "not a trace"),
    ] {
      let error = #expect(throws: TraceError.self) { try TraceReader(path: path) }
      #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
    }
    // A preamble alone, and a part of one, are traces that were cut off.
    let preamble = Preamble(createdUnixNanoseconds: 0).encoded()
    for length in [8, 31, 32] {
      write(Array(preamble[..<length]), folder("cut"))
      let reader = try TraceReader(path: folder("cut"))
      #expect(!reader.warnings.isEmpty, "\(length) bytes")
    }
  }
}
