/// Completes every operation at once, in full: it measures the replayer itself.
public struct NullEngine: IOEngine, ~Copyable {
  public static let name = "null"
  public static let summary = "completes at once, does no I/O: measures the replayer itself"
  public static var needsTargets: Bool { false }
  public static var capabilities: EngineCapabilities {
    var capabilities = EngineCapabilities()
    capabilities.lastingTarget = false
    return capabilities
  }
  public init(_ configuration: EngineConfiguration) {}

  @inline(__always)
  public mutating func queue(_ operation: IOOperation, slot: Int32) -> QueueStatus {
    switch operation.kind {
    case .read, .write: .completed(Int64(operation.lengthBytes))
    default: .completed(0)
    }
  }
}
