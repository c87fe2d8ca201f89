import CTrace

/// What makes a recorder that keeps the last events in memory write them.
public struct TriggerCondition: Sendable {
  /// What is looked at.
  enum Subject: Equatable, Sendable {
    /// A call that took longer.
    case latency(overNanoseconds: Int64)
    /// A call that failed, with one of these errors, or any when there are none.
    case error(codes: Set<Int32>)
    /// The recorded program ends by a signal or with a status that is not 0.
    case failure
    /// The recording ends.
    case end
  }
  let subject: Subject
  /// The operation that must be it; nil for any.
  let operation: TraceOperation?
  /// The condition as it was given, in plain characters.
  public let text: String

  /// `latency > 100ms`, `fsync latency > 1s`, `errors`, `write errors`, `error EIO,ENOSPC`, `failure`, `end`; nil for anything else.
  public init?(_ text: String) {
    let spaced = text.replacing(">", with: " > ")
    var words = spaced.split(whereSeparator: { $0 == " " || $0 == "\t" }).map(String.init)
    let operation = words.count > 1 ? words.first.flatMap { TraceOperation(name: $0) } : nil
    if operation != nil { words.removeFirst() }
    guard operation != .gap, operation != .other, let subject = Self.subject(words) else { return nil }
    guard operation == nil || (subject != .failure && subject != .end) else { return nil }
    self.subject = subject
    self.operation = operation
    self.text = ((operation.map { [$0.name] } ?? []) + words).joined(separator: " ")
  }

  private static func subject(_ words: [String]) -> Subject? {
    switch (words.first, words.count) {
    case ("latency", 3) where words[1] == ">":
      return DurationText.nanoseconds(words[2]).map { .latency(overNanoseconds: $0) }
    case ("errors", 1): return .error(codes: [])
    case ("error", 2):
      var codes: Set<Int32> = []
      for name in words[1].split(separator: ",", omittingEmptySubsequences: false) {
        guard let code = errorCode(String(name)) else { return nil }
        codes.insert(code)
      }
      return .error(codes: codes)
    case ("failure", 1): return .failure
    case ("end", 1): return .end
    default: return nil
    }
  }

  /// The number of an error's name, as `EIO`.
  private static func errorCode(_ name: String) -> Int32? {
    (1...133).first { code in ctrace_error_name(code).map { String(cString: $0) == name } == true }
  }

  /// Why `event` meets the condition, in words; nil when it does not.
  func reason(_ event: TraceEvent) -> String? {
    guard operation == nil || operation == event.operation, event.operation != .gap else { return nil }
    switch subject {
    case .latency(let limit):
      guard let latency = event.latencyIfKnown, latency > limit else { return nil }
      return "\(text): \(event.operation.name) took \(DurationText.text(latency))"
    case .error(let codes):
      guard let result = event.resultIfKnown, result < 0, result >= -4095 else { return nil }
      let code = Int32(-result)
      guard codes.isEmpty || codes.contains(code) else { return nil }
      return "\(text): \(event.operation.name) failed: \(String(cString: strerror(code)))"
    case .failure, .end: return nil
    }
  }
}
