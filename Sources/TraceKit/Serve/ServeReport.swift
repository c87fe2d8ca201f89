/// What the other end of a replay's streams received and sent.
public struct ServeReport: Codable, Sendable {
  public static let schemaName = "trace-replay-serve"
  public static let schemaVersion = "1.0.0"

  /// One connection.
  public struct Connection: Codable, Sendable {
    /// Who connected, as numbers.
    public var peer: String
    /// `received` or `sent`.
    public var direction: String
    public var bytes: UInt64
    /// Datagrams, for UDP.
    public var datagrams: UInt64?
    /// Datagrams that did not arrive, by their sequence numbers or the peer's word.
    public var datagramsLost: UInt64?
    /// Bytes that the trace has in this direction, all loops together.
    public var expectedBytes: UInt64
    /// XXH3-64 of the bytes (for UDP, the sum over the datagrams), 16 hexadecimal digits.
    public var digest: String?
    /// Whether the peer has the same bytes, in words.
    public var comparison: String
    public var elapsedNanoseconds: Int64
    /// What went wrong; nil when nothing did.
    public var failure: String?

    enum CodingKeys: String, CodingKey {
      case peer, direction, bytes, datagrams
      case datagramsLost = "datagrams_lost"
      case expectedBytes = "expected_bytes"
      case digest, comparison
      case elapsedNanoseconds = "elapsed_ns"
      case failure
    }
  }

  public var schema = ReplayReport.Schema(name: schemaName, version: schemaVersion)
  public var tool = "trace-replay \(ToolVersion.current)"
  /// Path of the trace, safe to print.
  public var trace: String
  public var digest: String?
  public var address: String
  public var connections: [Connection] = []
  /// Connections that were turned away, because of who they came from.
  public var refused: UInt64 = 0
  /// Why it stopped: `connections`, `idle` or `signal`.
  public var stopped = "connections"

  /// Everything arrived as it should.
  public var isComplete: Bool { !connections.isEmpty && connections.allSatisfy { $0.failure == nil } }

  /// The report for people.
  public var text: String {
    var text = "trace       \(trace)  digest \(digest ?? "not known")\naddress     \(address)\n"
    for connection in connections {
      let seconds = Double(max(1, connection.elapsedNanoseconds)) / 1e9
      let rate = ByteCount.text(UInt64(Double(connection.bytes) / seconds))
      text += "\(connection.direction == "sent" ? "sent        " : "received    ")\(ByteCount.text(connection.bytes)) "
      text +=
        "(\(connection.bytes) of \(connection.expectedBytes) bytes) \(connection.direction == "sent" ? "to" : "from") \(connection.peer)"
      text += " in \(DurationText.text(connection.elapsedNanoseconds)), \(rate)/s\n"
      if let datagrams = connection.datagrams {
        text += "            \(datagrams) datagrams\(connection.datagramsLost.map { ", \($0) lost" } ?? "")\n"
      }
      text += "            digest \(connection.digest ?? "not computed"), \(connection.comparison)\n"
      if let failure = connection.failure { text += "            FAILED: \(failure)\n" }
    }
    if refused > 0 { text += "refused     \(refused) connections (--allow names who may connect)\n" }
    text += "stopped     "
    switch stopped {
    case "idle": text += "nobody connected for too long\n"
    case "signal": text += "by a signal\n"
    default: text += "\(connections.count) connection\(connections.count == 1 ? "" : "s") served\n"
    }
    return text
  }
}
