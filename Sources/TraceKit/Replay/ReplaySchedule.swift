/// When requests are due: recorded times by the speed.
struct ReplaySchedule: BitwiseCopyable {
  private enum Kind: UInt8, BitwiseCopyable { case original, factor, rate, none }
  private let kind: Kind
  private let value: Double

  init(_ speed: ReplaySpeed) {
    switch speed {
    case .maximum: (kind, value) = (.none, 0)
    case .factor(1): (kind, value) = (.original, 1)
    case .factor(let factor): (kind, value) = (.factor, factor)
    case .rate(let rate): (kind, value) = (.rate, rate)
    }
  }

  /// Nanoseconds after the replay's start at which a request is due; 0 without a schedule.
  /// - Parameter ordinal: its number among the replayed requests.
  @inline(__always)
  func due(startNanoseconds: Int64, ordinal: UInt64) -> Int64 {
    switch kind {
    case .original: startNanoseconds
    case .none: 0
    case .factor: Int64(Double(startNanoseconds) / value)
    case .rate: Int64(Double(ordinal) * 1e9 / value)
    }
  }
}
