/// A part of a trace that could not be read, and what is missing for it.
public struct TraceDamage: Hashable, Sendable, CustomStringConvertible {
  /// Byte range in the file.
  public var offsetBytes: UInt64
  public var lengthBytes: UInt64
  public var reason: String
  /// Numbers of the events that are lost, when the blocks around tell.
  public var lostEvents: Range<UInt64>?
  /// Start times between which the lost events lie, in nanoseconds since the epoch.
  public var timeNanoseconds: ClosedRange<Int64>?

  public var description: String {
    var text = "bytes \(offsetBytes)–\(offsetBytes + max(lengthBytes, 1) - 1): \(reason)"
    if let lostEvents, !lostEvents.isEmpty {
      text += "; events \(lostEvents.lowerBound)–\(lostEvents.upperBound - 1) (\(lostEvents.count)) are lost"
    }
    if let timeNanoseconds {
      text += ", between \(Self.seconds(timeNanoseconds.lowerBound)) s and \(Self.seconds(timeNanoseconds.upperBound)) s"
    }
    return text
  }

  private static func seconds(_ nanoseconds: Int64) -> String {
    let micro = nanoseconds / 1000
    let fraction = String((micro % 1_000_000).magnitude)
    return "\(micro / 1_000_000).\(String(repeating: "0", count: 6 - fraction.count))\(fraction)"
  }
}
