/// How runs are compared.
public struct DiffOptions: Sendable {
  /// Names out of `ReportDiff.refusals` in which the runs may differ.
  public var allow: Set<String> = []
  /// A change within this many per cent counts as equivalent.
  public var marginPercent = 2.0
  /// Limits that the comparison is held against.
  public var gates: [DiffGate] = []
  /// The beginning of each run that does not count.
  public var warmup: DiffWarmup?
  public init() {}
}

/// The beginning of a run that does not count.
public enum DiffWarmup: Hashable, Sendable {
  case requests(UInt64)
  case nanoseconds(Int64)

  /// `5000` requests, or a duration with its unit: `10s`; nil for anything else.
  public init?(_ text: String) {
    if let count = UInt64(text) {
      self = .requests(count)
    } else if let last = text.last, last.isLetter, let duration = DurationText.nanoseconds(text) {
      self = .nanoseconds(duration)
    } else {
      return nil
    }
  }
}
