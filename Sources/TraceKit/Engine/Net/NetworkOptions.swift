/// How peers of sockets are met; what a user chooses.
public struct NetworkOptions: Sendable {
  /// The peer connects, and this end waits for it.
  public var listens = false
  /// A peer that does nothing for this long is given up.
  public var timeoutNanoseconds = defaultTimeoutNanoseconds
  public static let defaultTimeoutNanoseconds: Int64 = 30_000_000_000
  /// Two connections: writes go out on the first, reads come in on the second.
  public var isDuplex = false
  /// Data moves by vmsplice(2) and splice(2).
  public var splices = false
  /// Digests of the streams are computed.
  public var computesDigests = true
  public init() {}
}
