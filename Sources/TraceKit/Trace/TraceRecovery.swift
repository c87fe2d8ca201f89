/// Copies what is intact of a damaged or unclosed trace into a new one.
public enum TraceRecovery {
  /// What was copied and what was not.
  public struct Report: Sendable {
    public var events: UInt64 = 0
    public var files: UInt64 = 0
    public var gaps: UInt64 = 0
    /// Events that are missing; nil when nothing tells their number.
    public var lostEvents: UInt64? = 0
    public var damages: [TraceDamage] = []
    /// The source had an end block.
    public var wasClosed = false
    public var sizeBytes: UInt64 = 0
    public var digest = TraceDigest()
    public init() {}
  }

  /// Copies the events and tables of every intact block of `source` into a new, closed trace, with a gap event (cause
  /// `damagedBlock`) wherever events are missing. The new trace says that it is not lossless. `source` is not touched.
  /// - Throws: when `source` can't be read or is no trace, or `destination` is `source`, exists or can't be written.
  public static func recover(
    from source: String, to destination: String, options: TraceWriter.Options = TraceWriter.Options()
  ) throws(TraceError) -> Report {
    try OutputFile.refuseSame(destination, as: source)
    let reader = try TraceReader(path: source)
    let walk = try TraceBlockWalk(path: source)
    var metadata = reader.metadata
    var notes = metadata.summary ?? [:]
    notes["recovered_from"] = source
    metadata.summary = notes
    let writer = try TraceWriter(path: destination, metadata: metadata, options: options)
    for file in reader.files { _ = writer.addFile(file) }
    var copy = RecoveryCopy(writer: writer, lost: try lostBlocks(walk))
    copy.report.damages = walk.damages
    try walk.forEach { (block) throws(TraceError) in try copy.take(block) }
    try copy.finish()
    return copy.report
  }

  /// Blocks of events that the source's own index names, for the times of those that are gone.
  private static func lostBlocks(_ walk: TraceBlockWalk) throws(TraceError) -> [TraceIndexEntry] {
    guard walk.entries.contains(where: { $0.type == BlockType.index.rawValue }) else { return [] }
    var found: [TraceIndexEntry] = []
    try walk.forEach { (block) throws(TraceError) in
      if case .index(let entries)? = block.content { found = entries.filter { $0.type == BlockType.events.rawValue } }
    }
    return found
  }
}

/// Appends blocks in order and puts gaps where event numbers are missing.
private struct RecoveryCopy {
  let writer: TraceWriter
  /// Events blocks by the source's index, in the order of their numbers.
  let lost: [TraceIndexEntry]
  var report = TraceRecovery.Report()
  private var nextEvent: UInt64 = 0
  private var latest: Int64?
  /// A damaged place may have held events although nothing tells how many.
  private var uncertain = false
  private var closing: TraceTotals?
  /// Times of the damaged blocks since the last intact one.
  private var damagedTimes: [ClosedRange<Int64>] = []

  init(writer: TraceWriter, lost: [TraceIndexEntry]) {
    self.writer = writer
    self.lost = lost
  }

  mutating func take(_ block: TraceBlockWalk.Block) throws(TraceError) {
    if let damage = block.damage {
      report.damages.append(damage)
      if let times = damage.timeNanoseconds { damagedTimes.append(times) }
      uncertain = true
      return
    }
    guard let header = block.header else { return }
    switch block.content {
    case .events(let events):
      if header.firstEvent > nextEvent { try gap(upTo: header.firstEvent, before: header.firstTimeNanoseconds) }
      uncertain = false
      damagedTimes.removeAll()
      for event in events { try writer.append(event) }
      nextEvent = max(nextEvent, header.firstEvent) + UInt64(events.count)
      if let last = events.last { latest = max(latest ?? Int64.min, last.startNanoseconds) }
    case .end(let end):
      closing = end.totals
      report.wasClosed = true
    default: break
    }
  }

  /// A gap for the events `nextEvent` ..< `number`; one for each lost block whose times are known.
  private mutating func gap(upTo number: UInt64, before time: Int64?) throws(TraceError) {
    let known = lost.filter { $0.firstEvent >= nextEvent && $0.firstEvent + UInt64($0.count) <= number }
    if known.reduce(UInt64(0), { $0 + UInt64($1.count) }) == number - nextEvent {
      for entry in known { try append(from: entry.firstTimeNanoseconds, to: entry.lastTimeNanoseconds, count: UInt64(entry.count)) }
    } else {
      let from = damagedTimes.map(\.lowerBound).min() ?? latest ?? time ?? 0
      let to = time ?? damagedTimes.map(\.upperBound).max() ?? from
      try append(from: from, to: to, count: number - nextEvent)
    }
    nextEvent = number
  }

  private mutating func append(from start: Int64, to end: Int64, count: UInt64?) throws(TraceError) {
    let (length, overflow) = end.subtractingReportingOverflow(start)
    report.gaps += 1
    if let count, let lost = report.lostEvents { report.lostEvents = lost + count } else { report.lostEvents = nil }
    try writer.append(
      TraceEvent(
        startNanoseconds: start, operation: .gap, sizeBytes: count ?? TraceEvent.unknownSize,
        latencyNanoseconds: overflow || length < 0 ? TraceEvent.unknownLatency : length, result: GapCause.damagedBlock.rawValue))
  }

  mutating func finish() throws(TraceError) {
    let ends = lost.map { $0.firstEvent + UInt64($0.count) } + report.damages.compactMap { $0.lostEvents?.upperBound }
    let known = max(closing?.events ?? 0, ends.max() ?? 0)
    if known > nextEvent {
      let time = closing.map { max($0.lastTimeNanoseconds, latest ?? Int64.min) }
      try gap(upTo: known, before: time)
    }
    // Without an end block nobody knows what else there was.
    if closing == nil { try append(from: damagedTimes.map(\.upperBound).max() ?? latest ?? 0, to: Int64.min, count: nil) }
    let totals = try writer.finish(lossless: false)
    report.events = totals.events - report.gaps
    report.files = totals.files
    report.sizeBytes = writer.sizeBytes
    report.digest = totals.digest
  }
}

extension TraceRecovery.Report {
  /// For people, lines ended by `\n`.
  public var text: String {
    var lines = ["recovered   \(events) events and \(files) files, \(sizeBytes) bytes, digest \(digest.hexadecimal)"]
    let lost = lostEvents.map { "\($0) events" } ?? "an unknown number of events"
    lines.append("missing     " + (gaps == 0 ? "no events" : "\(lost), marked by \(gaps) gap events"))
    if !wasClosed { lines.append("            the source was not closed, so what came after its last block is not known") }
    lines += damages.map { "            \($0.description)" }
    return lines.map { $0 + "\n" }.joined()
  }

  /// The same with stable keys.
  public var json: JSONNode {
    let fields: [(String, JSONNode)] = [
      ("events", .unsigned(events)), ("files", .unsigned(files)), ("gaps", .unsigned(gaps)), ("lost_events", .unsigned(lostEvents)),
      ("source_closed", .boolean(wasClosed)), ("size_bytes", .unsigned(sizeBytes)), ("digest", .text(digest.hexadecimal)),
      ("damages", .array(damages.map { TraceInformation.damageJSON($0) })),
    ]
    return .object(fields)
  }
}
