import CTrace

/// What went wrong with a file, in one sentence that names the file, the place in it and what helps.
public struct TraceError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Coarse cause, for exit statuses and tests.
  public enum Kind: Hashable, Sendable {
    /// A system call failed, with its errno.
    case system(Int32)
    /// The input is not what it should be (no trace, truncated, corrupted, a value out of range).
    case invalidInput
    /// The input is of a newer major version, or of a kind that this build does not read.
    case unsupported
    /// The request contradicts itself, or is refused for safety's sake.
    case refused
    /// Options that do not go together.
    case usage
    /// A stop signal came before there was anything to report.
    case interrupted
  }
  public var kind: Kind
  public var message: String

  public init(_ kind: Kind, _ message: String) {
    self.kind = kind
    self.message = message
  }

  /// A failed system call: `path: cannot verb: reason`.
  public init(path: String, _ action: String, errno code: Int32, hint: String = "") {
    self.kind = .system(code)
    let reason = String(cString: strerror(code))
    self.message = "\(PrintableText.escaped(path)): cannot \(action): \(reason)\(hint.isEmpty ? "" : " (\(hint))")"
  }

  public var description: String { message }
}
