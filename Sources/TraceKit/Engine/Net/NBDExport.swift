/// What an NBD server said of an export.
public struct NBDExport: Hashable, Sendable {
  public var sizeBytes: UInt64
  /// NBD_FLAG_* of the transmission.
  var flags: UInt16
  /// Smallest length and alignment of a request; 1 where the server named none.
  public var minimumBlockBytes: UInt32 = 1
  /// Longest payload of one request.
  public var maximumPayloadBytes = NBDProtocol.defaultMaximumPayloadBytes
  /// Reads are answered in chunks.
  public var repliesAreStructured = false

  public var isReadOnly: Bool { flags & 1 << 1 != 0 }
  public var flushes: Bool { flags & 1 << 2 != 0 }
  public var forcesUnitAccess: Bool { flags & 1 << 3 != 0 }
  public var trims: Bool { flags & 1 << 5 != 0 }
  public var takesSeveralConnections: Bool { flags & 1 << 8 != 0 }

  /// What it can, for a report.
  public var features: String {
    var names: [String] = []
    if isReadOnly { names.append("read-only") }
    if flushes { names.append("flush") }
    if forcesUnitAccess { names.append("fua") }
    if trims { names.append("trim") }
    if takesSeveralConnections { names.append("multi-conn") }
    if repliesAreStructured { names.append("structured-replies") }
    return names.joined(separator: " ")
  }
}
