/// Which threads of a recording a sample has: what was decided, and for how many.
struct ThreadSample {
  private let rule: SampleRule?
  private var met: Set<UInt64> = []
  private var last: (key: UInt64, isKept: Bool) = (0, true)
  private var recordedCount: UInt64 = 0

  /// Without a rule, or with one for files, all are kept.
  init(_ rule: SampleRule?) { self.rule = rule?.unit == .threads ? rule : nil }

  var counts: (recorded: UInt64, met: UInt64) { (recordedCount, UInt64(met.count)) }

  mutating func keeps(_ event: TraceEvent) -> Bool {
    guard let rule else { return true }
    let key = UInt64(UInt32(bitPattern: event.processID)) << 32 | UInt64(UInt32(bitPattern: event.threadID))
    if key == last.key { return last.isKept }
    let isKept = rule.keeps(process: event.processID, thread: event.threadID)
    if met.insert(key).inserted, isKept { recordedCount += 1 }
    last = (key, isKept)
    return isKept
  }
}
