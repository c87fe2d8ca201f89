/// One worker's way to its peer, opened before the clock starts.
public struct NetConnection: Sendable {
  public var address: NetAddress
  /// Connected socket that takes what is written; −1 for none. An NBD connection has only this one.
  public var output: Int32 = -1
  /// Connected socket that gives what is read; −1 for none.
  public var input: Int32 = -1
  /// What was agreed on with an NBD server.
  var export: NBDExport?
  /// Writes are permitted.
  public var allowsWrites = false

  public init(address: NetAddress) { self.address = address }
}
