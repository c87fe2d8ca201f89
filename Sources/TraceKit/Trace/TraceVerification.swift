/// Examines every byte of a trace: checksums, order, counts, and the digest against the end block.
public struct TraceVerification: Sendable {
  public let path: String
  /// What can't be read, and what is missing for it.
  public private(set) var damages: [TraceDamage] = []
  /// What contradicts itself although it can be read.
  public private(set) var problems: [String] = []
  /// The trace has an end block.
  public private(set) var isClosed = false
  /// The end block says that nothing was missed while recording; nil without one.
  public private(set) var lossless: Bool?
  /// Blocks and events whose checksums and contents hold.
  public private(set) var intactBlocks: UInt64 = 0
  public private(set) var intactEvents: UInt64 = 0
  /// Blocks of types that this version does not know; skipped.
  public private(set) var unknownBlocks: UInt64 = 0
  /// Digest of the readable events.
  public private(set) var digest = TraceDigest()
  private let minorVersion: UInt16

  /// Everything can be read, nothing contradicts itself, and the trace was closed.
  public var isIntact: Bool { damages.isEmpty && problems.isEmpty && isClosed }

  /// Examines the trace at `path` in constant memory.
  /// - Throws: when the file can't be read, is no trace, or is of a newer major version.
  public init(path: String) throws(TraceError) {
    self.path = path
    let walk = try TraceBlockWalk(path: path)
    minorVersion = walk.minorVersion
    var check = Check()
    damages = walk.damages
    try walk.forEach { (block) throws(TraceError) in
      if let damage = block.damage {
        damages.append(damage)
        check.isBroken = true
      } else if let header = block.header, let content = block.content {
        intactBlocks += 1
        check.take(header, content, offset: block.offset, into: &self)
      }
    }
    digest = check.totals.digest
    finish(check, walk)
  }

  /// What is carried from block to block.
  private struct Check {
    var totals = TraceTotals()
    var sequence: UInt64 = 0
    var nextEvent: UInt64 = 0
    var files: UInt64 = 0
    var latest = Int64.min
    var sorted = true
    var end: (totals: TraceTotals, indexOffset: UInt64, endOffset: UInt64)?
    var endIsLast = false
    var index: [TraceIndexEntry]?
    var isBroken = false
    /// Operations of a newer version, which can't be part of a digest that is computed here.
    var unknownOperations: UInt64 = 0

    mutating func take(
      _ header: BlockHeader, _ content: TraceBlockWalk.Content, offset: UInt64, into report: inout TraceVerification
    ) {
      endIsLast = false
      if header.sequence != sequence {
        report.problems.append(
          "block \(header.sequence) at byte \(offset) follows block \(Int64(bitPattern: sequence &- 1)): blocks are missing")
        isBroken = true
      }
      sequence = header.sequence &+ 1
      if header.firstEvent != nextEvent, !isBroken {
        report.problems.append("the block at byte \(offset) begins with event \(header.firstEvent), not \(nextEvent)")
      }
      nextEvent = header.firstEvent
      switch content {
      case .events(let events): takeEvents(events, header, offset, &report)
      case .files(let rows): files += UInt64(rows.count)
      case .index(let entries): index = entries
      case .end(let found):
        end = found
        endIsLast = true
        if found.endOffset != offset {
          report.problems.append("the end block at byte \(offset) says that it is at byte \(found.endOffset)")
        }
      case .metadata(let decoded):
        if decoded == nil { report.problems.append("the metadata at byte \(offset) is not the JSON that it should be") }
      case .unknown: report.unknownBlocks += 1
      }
    }

    private mutating func takeEvents(
      _ events: UnsafeBufferPointer<TraceEvent>, _ header: BlockHeader, _ offset: UInt64, _ report: inout TraceVerification
    ) {
      nextEvent = header.firstEvent + UInt64(header.count)
      report.intactEvents += UInt64(events.count)
      guard let first = events.first, let last = events.last else { return }
      var inOrder = true
      var previous = first.startNanoseconds
      for event in events {
        if event.startNanoseconds < previous { inOrder = false }
        previous = event.startNanoseconds
        if event.operation == .other { unknownOperations += 1 }
        totals.count(event)
      }
      if !inOrder { report.problems.append("the events of the block at byte \(offset) are not in the order of their starts") }
      if first.startNanoseconds != header.firstTimeNanoseconds || last.startNanoseconds != header.lastTimeNanoseconds {
        report.problems.append("the times in the header of the block at byte \(offset) are not those of its events")
      }
      let continues = first.startNanoseconds >= latest
      if !continues { sorted = false }
      if continues != header.continuesInOrder, !isBroken {
        report.problems.append(
          "the block at byte \(offset) says '\(header.continuesInOrder ? "in order" : "not in order")', which it is not")
      }
      latest = max(latest, last.startNanoseconds)
    }
  }

  private mutating func finish(_ check: Check, _ walk: TraceBlockWalk) {
    guard let end = check.end else { return }
    isClosed = true
    lossless = end.totals.lossless
    if !check.endIsLast { problems.append("blocks follow the end block") }
    if end.totals.events > check.totals.events {
      let missing = end.totals.events - check.totals.events
      problems.append("\(missing) of the \(end.totals.events) events that the end block counts are missing")
    } else if damages.isEmpty, !check.isBroken {
      compare(end.totals, check)
      compareIndex(check, walk)
    }
  }

  /// The end block's figures against those of the events.
  private mutating func compare(_ end: TraceTotals, _ check: Check) {
    let isChecked = minorVersion <= TraceFormat.minorVersion || check.unknownOperations == 0
    if isChecked, end.digest != check.totals.digest {
      problems.append("the digest of the events is \(check.totals.digest.hexadecimal), the end block says \(end.digest.hexadecimal)")
    }
    let found = check.totals
    let pairs: [(String, String, String)] = [
      ("events", "\(found.events)", "\(end.events)"), ("gaps", "\(found.gaps)", "\(end.gaps)"),
      ("lost events", found.lostEvents.map(String.init) ?? "not known", end.lostEvents.map(String.init) ?? "not known"),
      ("reads", "\(found.reads)", "\(end.reads)"), ("writes", "\(found.writes)", "\(end.writes)"),
      ("bytes read", "\(found.bytesRead)", "\(end.bytesRead)"), ("bytes written", "\(found.bytesWritten)", "\(end.bytesWritten)"),
      ("first time", "\(found.firstTimeNanoseconds)", "\(end.firstTimeNanoseconds)"),
      ("last time", "\(found.lastTimeNanoseconds)", "\(end.lastTimeNanoseconds)"), ("files", "\(check.files)", "\(end.files)"),
      ("sorted", "\(check.sorted)", "\(end.sorted)"),
    ]
    for (name, here, there) in pairs where here != there { problems.append("\(name): \(here), the end block says \(there)") }
    if end.lossless, found.gaps > 0 { problems.append("the end block says lossless, and there are \(found.gaps) gaps") }
  }

  private mutating func compareIndex(_ check: Check, _ walk: TraceBlockWalk) {
    guard let index = check.index else { return }
    let blocks = walk.entries.prefix { $0.type != BlockType.index.rawValue }
    let same = index.count == blocks.count && zip(index, blocks).allSatisfy { $0.isSamePlace(as: $1) }
    if !same { problems.append("the index does not name the blocks that are there") }
  }
}

extension TraceVerification {
  /// For people, lines ended by `\n`.
  public var text: String {
    let shown = PrintableText.escaped(path)
    var lines: [String] = []
    if isIntact {
      let state = lossless == true ? "lossless" : "recorded with losses, which it names itself"
      lines.append("\(shown): intact, \(intactBlocks) blocks, \(intactEvents) events, \(state), digest \(digest.hexadecimal)")
    } else {
      lines.append("\(shown): \(damages.isEmpty && problems.isEmpty ? "not closed" : "damaged")")
      lines += damages.map { "  \($0.description)" }
      lines += problems.map { "  \($0)" }
      if !isClosed { lines.append("  the end block is missing: the trace was not closed, or its end is cut off") }
      lines.append("  intact: \(intactBlocks) blocks with \(intactEvents) events; 'trace-record recover' copies them into a new trace")
    }
    if unknownBlocks > 0 { lines.append("  \(unknownBlocks) blocks of types that this version does not know were skipped") }
    return lines.map { $0 + "\n" }.joined()
  }

  /// The same with stable keys.
  public var json: JSONNode {
    let state: [(String, JSONNode)] = [
      ("path", .text(PrintableText.escaped(path))), ("intact", .boolean(isIntact)), ("closed", .boolean(isClosed)),
      ("lossless", .boolean(lossless)), ("intact_blocks", .unsigned(intactBlocks)), ("intact_events", .unsigned(intactEvents)),
      ("unknown_blocks", .unsigned(unknownBlocks)), ("digest", .text(digest.hexadecimal)),
    ]
    let trouble: [(String, JSONNode)] = [
      ("damages", .array(damages.map { TraceInformation.damageJSON($0) })), ("problems", .array(problems.map { .text($0) })),
    ]
    return .object(state + trouble)
  }
}
