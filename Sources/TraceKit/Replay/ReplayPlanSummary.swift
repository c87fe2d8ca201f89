/// What a replay would do: the answer of `--dry-run`.
public struct ReplayPlanSummary: Sendable {
  public struct Target: Sendable {
    /// Recorded path, safe to print.
    public var recorded: String
    /// Target, safe to print.
    public var target: String
    public var exists: Bool
    /// Bytes of an existing target that writes would replace.
    public var bytesOverwritten: UInt64
    public var changes: Bool
    public var requests: UInt64
    /// It would be refused without `--allow-writes`.
    public var needsPermission: Bool
    /// For a stream: which way the data go; nil for what has contents.
    public var directions: String?
  }
  public var requests: UInt64
  public var bytesRead: UInt64
  public var bytesWritten: UInt64
  /// Expected duration in nanoseconds; nil at maximum speed.
  public var expectedDurationNanoseconds: Int64?
  public var notReplayed: [String: UInt64]
  public var targets: [Target] = []

  init(survey: TraceSurvey, notReplayed: [String: UInt64], speed: ReplaySpeed) {
    requests = survey.requests
    bytesRead = survey.bytesRead
    bytesWritten = survey.bytesWritten
    self.notReplayed = notReplayed
    expectedDurationNanoseconds = speed.isTimed ? survey.durationNanoseconds : nil
  }

  /// The plan as text.
  public var text: String {
    var lines = ["requests  \(requests): \(ByteCount.text(bytesRead)) read, \(ByteCount.text(bytesWritten)) written"]
    lines.append("duration  " + (expectedDurationNanoseconds.map { DurationText.text($0) } ?? "as fast as the targets allow"))
    for (reason, count) in notReplayed.sorted(by: { $0.key < $1.key }) { lines.append("not replayed  \(count) × \(reason)") }
    for target in targets.prefix(1000) {
      var line = "\(target.target)  for \(target.recorded): \(target.requests) requests, "
      line +=
        target.directions
        ?? (target.exists ? (target.changes ? "\(ByteCount.text(target.bytesOverwritten)) OVERWRITTEN" : "only read") : "will be made")
      if target.needsPermission { line += " (refused without --allow-writes)" }
      lines.append(line)
    }
    if targets.count > 1000 { lines.append("… and \(targets.count - 1000) more targets") }
    return lines.joined(separator: "\n") + "\n"
  }
}
