/// Takes operations and completes them. A non-copyable value that one worker thread owns; the replay's loop is generic over it,
/// in the same module, so that it specialises. Nothing in `perform` allocates or throws: a failed operation is a counted result.
public protocol IOEngine: ~Copyable, SendableMetatype {
  /// Name on the command line and in reports.
  static var name: String { get }
  /// One sentence for `trace-replay engines` and the manual.
  static var summary: String { get }
  /// It moves data, so it needs targets.
  static var needsTargets: Bool { get }
  init()
  /// Does the whole operation.
  /// - Returns: bytes moved, 0 for operations that move none, or −errno.
  mutating func perform(_ operation: IOOperation) -> Int64
}
