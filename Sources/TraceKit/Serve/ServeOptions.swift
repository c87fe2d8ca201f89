/// How the other end of a stream is run.
public struct ServeOptions: Sendable {
  /// Where it listens; a port of 0 is chosen by the system.
  public var address = NetAddress(transport: .tcp(host: "127.0.0.1", port: 0))
  /// It connects to `address` instead.
  public var connects = false
  /// Who may connect; the machine itself when empty.
  public var allowed: [AddressPrefix] = []
  /// Connections that it serves before it stops; nil for one, and two for a trace that reads and writes.
  public var connections: Int?
  public static let maximumConnections = 1024
  /// Bytes per connection, in each direction; nil for what the trace has.
  public var limitBytes: UInt64?
  /// Without a connection, or without a byte on one, for this long it stops.
  public var idleNanoseconds: Int64 = 60_000_000_000
  public var computesDigests = true
  /// The part of the trace, as the replay's own.
  public var replay = ReplayOptions()
  public init() {}
}
