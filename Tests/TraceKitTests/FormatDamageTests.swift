import Foundation
import Testing

@testable import TraceKit

/// A trace damaged anywhere gives back every intact block exactly, and says what is missing.
@Suite struct FormatDamageTests {
  enum Damage: CaseIterable { case flip, cut, zero, insert, remove }

  /// A sorted trace of ten blocks of events with tables around.
  private func sample(_ path: String) throws -> [TraceEvent] {
    var random = SplitMix(seed: 77)
    let events = arbitraryEvents(1_000, &random, wild: false).sorted { $0.startNanoseconds < $1.startNanoseconds }
    try writeTrace(events, path)
    return events
  }

  /// The damaged bytes and the range of the original that is no longer there as it was.
  private func apply(_ damage: Damage, at position: Int, to original: [UInt8], _ random: inout SplitMix) -> (
    bytes: [UInt8], hit: Range<Int>
  ) {
    var bytes = original
    let length = min(Int.random(in: 1...80, using: &random), bytes.count - position)
    switch damage {
    case .flip:
      bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      return (bytes, position..<position + 1)
    case .cut: return (Array(bytes[..<position]), position..<bytes.count)
    case .zero:
      for i in position..<position + length { bytes[i] = 0 }
      return (bytes, position..<position + length)
    case .insert:
      bytes.insert(contentsOf: (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }, at: position)
      return (bytes, position..<position)
    case .remove:
      bytes.removeSubrange(position..<position + length)
      return (bytes, position..<position + length)
    }
  }

  /// A block is intact when no byte of it was touched; an insertion touches what it divides.
  private func isIntact(
    _ block: (offset: Int, length: Int, type: UInt8, count: Int), _ hit: Range<Int>, _ original: [UInt8], _ damaged: [UInt8]
  ) -> Bool {
    let own = block.offset..<block.offset + block.length
    if hit.isEmpty { return hit.lowerBound <= own.lowerBound || hit.lowerBound >= own.upperBound }
    if !own.overlaps(hit) { return true }
    // Zeroes over zeroes change nothing.
    return damaged.count == original.count && damaged[own] == original[own]
  }

  private func check(
    _ damage: Damage, at position: Int, _ original: [UInt8], _ events: [TraceEvent], _ folder: Folder, _ random: inout SplitMix
  ) throws {
    let (damaged, hit) = apply(damage, at: position, to: original, &random)
    write(damaged, folder("damaged"))
    guard damaged.count > 100 else { return }
    var expected: [TraceEvent] = []
    var lost: UInt64 = 0
    var next = 0
    for block in try blocks(of: folder("original")) where block.type == BlockType.events.rawValue {
      if isIntact(block, hit, original, damaged) { expected += events[next..<next + block.count] } else { lost += UInt64(block.count) }
      next += block.count
    }
    let name = "\(damage) at \(position)"
    let reader = try TraceReader(path: folder("damaged"))
    let read = try readAll(reader)
    let same = read == expected
    #expect(same, "\(name): \(read.count) events instead of \(expected.count)")
    let namesLoss = lost == 0 || !reader.damages.isEmpty || reader.totals == nil
    #expect(namesLoss, "\(name): nothing is said of \(lost) lost events")
    let changed = damaged != original
    let verification = try TraceVerification(path: folder("damaged"))
    #expect(verification.isIntact == !changed, "\(name): verification says \(verification.text)")
    let untouched = bytes(of: folder("damaged"))
    try checkRecovery(name, expected, lost, folder)
    let isUntouched = bytes(of: folder("damaged")) == untouched
    #expect(isUntouched, "\(name): recovery changed its source")
  }

  private func checkRecovery(_ name: String, _ expected: [TraceEvent], _ lost: UInt64, _ folder: Folder) throws {
    var options = TraceWriter.Options()
    options.overwrite = true
    let report = try TraceRecovery.recover(from: folder("damaged"), to: folder("recovered"), options: options)
    #expect(report.events == UInt64(expected.count), "\(name)")
    let countsLoss = report.lostEvents == lost || (report.lostEvents == nil && !report.wasClosed)
    #expect(countsLoss, "\(name): \(report.lostEvents.map(String.init) ?? "?") lost, not \(lost)")
    let reader = try TraceReader(path: folder("recovered"))
    let read = try readAll(reader)
    let same = read.filter { $0.operation != .gap || $0.result != GapCause.damagedBlock.rawValue } == expected
    #expect(same, "\(name): the recovered trace holds other events")
    let gaps = read.contains { $0.operation == .gap && $0.result == GapCause.damagedBlock.rawValue }
    #expect(gaps == (lost > 0 || !report.wasClosed), "\(name): gaps")
    #expect(reader.totals?.lossless == false)
    #expect(try TraceVerification(path: folder("recovered")).isIntact, "\(name): the recovered trace is not intact")
  }

  @Test(arguments: Damage.allCases)
  func damageAtEveryBlockBoundaryLosesThatBlockOnly(damage: Damage) throws {
    let folder = Folder()
    let events = try noGaps(sample(folder("original")), folder)
    let original = bytes(of: folder("original"))
    var random = SplitMix(seed: 3)
    for block in try blocks(of: folder("original")) {
      for position in [block.offset - 1, block.offset, block.offset + 1, block.offset + 63, block.offset + 64]
      where position < original.count {
        try check(damage, at: position, original, events, folder, &random)
      }
    }
  }

  @Test(arguments: Damage.allCases)
  func damageAtRandomPlacesLosesTheBlocksThatItHits(damage: Damage) throws {
    let folder = Folder()
    let events = try noGaps(sample(folder("original")), folder)
    let original = bytes(of: folder("original"))
    var random = SplitMix(seed: 4)
    for _ in 0..<80 { try check(damage, at: Int.random(in: 0..<original.count, using: &random), original, events, folder, &random) }
  }

  /// The sample's own gaps would be mistaken for those of recovery.
  private func noGaps(_ events: [TraceEvent], _ folder: Folder) throws -> [TraceEvent] {
    let changed = events.map { event in
      var copy = event
      if copy.operation == .gap { copy.operation = .read }
      return copy
    }
    try writeTrace(changed, folder("original"))
    return changed
  }

  @Test func anUnclosedTraceIsReadAndSaysSo() throws {
    let folder = Folder()
    var random = SplitMix(seed: 1)
    let events = arbitraryEvents(250, &random, wild: false).sorted { $0.startNanoseconds < $1.startNanoseconds }
    try writeTrace(events, folder("t"), close: false)
    let reader = try TraceReader(path: folder("t"))
    let same = try readAll(reader) == events
    #expect(same)
    #expect(reader.totals == nil)
    #expect(reader.warnings.count == 1)
    #expect(try !TraceVerification(path: folder("t")).isIntact)
  }

  @Test func theDamageNamesEventsAndTimes() throws {
    let folder = Folder()
    let events = (0..<300).map {
      TraceEvent(startNanoseconds: Int64($0) * 1_000_000_000, operation: .read, file: 0, offsetBytes: 0, sizeBytes: 1)
    }
    try writeTrace(events, folder("t"))
    var damaged = bytes(of: folder("t"))
    let block = try blocks(of: folder("t")).filter { $0.type == BlockType.events.rawValue }[1]
    damaged[block.offset + 70] ^= 1
    write(damaged, folder("t"))
    let verification = try TraceVerification(path: folder("t"))
    #expect(verification.damages.first?.lostEvents == 100..<200)
    #expect(verification.damages.first?.timeNanoseconds == 100_000_000_000...199_000_000_000)
    let report = try TraceRecovery.recover(from: folder("t"), to: folder("r"))
    #expect(report.lostEvents == 100)
    let gaps = try readAll(TraceReader(path: folder("r"))).filter { $0.operation == .gap }
    #expect(gaps.count == 1)
    #expect(gaps.first?.startNanoseconds == 100_000_000_000)
    #expect(gaps.first?.latencyNanoseconds == 99_000_000_000)
    #expect(gaps.first?.sizeBytes == 100)
  }

  @Test func recoveryNeverWritesOverItsSource() throws {
    let folder = Folder()
    try writeTrace([], folder("t"))
    let before = bytes(of: folder("t"))
    var options = TraceWriter.Options()
    options.overwrite = true
    #expect(throws: TraceError.self) { try TraceRecovery.recover(from: folder("t"), to: folder("t"), options: options) }
    let same = bytes(of: folder("t")) == before
    #expect(same)
  }
}
