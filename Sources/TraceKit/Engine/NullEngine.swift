/// Completes every operation at once, in full: it measures the replayer itself.
public struct NullEngine: IOEngine, ~Copyable {
  public static let name = "null"
  public static let summary = "completes at once, does no I/O: measures the replayer itself"
  public static let needsTargets = false
  public init() {}

  @inline(__always)
  public mutating func perform(_ operation: IOOperation) -> Int64 {
    switch operation.kind {
    case .read, .write: Int64(operation.lengthBytes)
    default: 0
    }
  }
}
