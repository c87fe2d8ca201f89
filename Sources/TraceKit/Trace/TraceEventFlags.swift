/// How a request was made. The bits are those of the trace format and never change.
public struct TraceEventFlags: OptionSet, Hashable, BitwiseCopyable, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// The open file description had O_DIRECT; of a read or write that reached a device, always.
  public static let direct = TraceEventFlags(rawValue: 1 << 0)
  /// The open file description had O_SYNC.
  public static let sync = TraceEventFlags(rawValue: 1 << 1)
  /// The open file description had O_DSYNC (and not O_SYNC).
  public static let dataSync = TraceEventFlags(rawValue: 1 << 2)
  /// The open file description had O_APPEND.
  public static let append = TraceEventFlags(rawValue: 1 << 3)
  /// The offset was not an argument of the call, and was not followed with certainty (O_APPEND, a shared description).
  public static let inferredOffset = TraceEventFlags(rawValue: 1 << 4)
  /// The call was in flight when the recorder attached: its start is the time of attaching.
  public static let inFlightAtAttach = TraceEventFlags(rawValue: 1 << 5)
  /// Made by stdio for the program: the bytes that one call on a stream moved between its buffer and the kernel, in one system
  /// call or several in a row. Calls that the buffer served are no events.
  public static let buffered = TraceEventFlags(rawValue: 1 << 6)
  /// The call used the description's position (read, write), it did not name an offset (pread, pwrite).
  public static let sequentialCall = TraceEventFlags(rawValue: 1 << 7)
  /// RWF_HIPRI of preadv2(2) and pwritev2(2).
  public static let highPriority = TraceEventFlags(rawValue: 1 << 8)
  /// RWF_NOWAIT.
  public static let noWait = TraceEventFlags(rawValue: 1 << 9)
  /// RWF_DSYNC of this one write, or FUA of a block request.
  public static let requestDataSync = TraceEventFlags(rawValue: 1 << 10)
  /// RWF_SYNC of this one write.
  public static let requestSync = TraceEventFlags(rawValue: 1 << 11)
  /// Several buffers in one call (readv, writev and their relatives).
  public static let vectored = TraceEventFlags(rawValue: 1 << 12)
  /// Submitted asynchronously (libaio, io_uring, POSIX AIO).
  public static let asynchronous = TraceEventFlags(rawValue: 1 << 13)
  /// O_CREAT of an open.
  public static let create = TraceEventFlags(rawValue: 1 << 14)
  /// O_TRUNC of an open.
  public static let truncating = TraceEventFlags(rawValue: 1 << 15)
  /// The file was opened for reading; of an open.
  public static let openRead = TraceEventFlags(rawValue: 1 << 16)
  /// The file was opened for writing; of an open.
  public static let openWrite = TraceEventFlags(rawValue: 1 << 17)
  /// A shared mapping, of mmap.
  public static let sharedMapping = TraceEventFlags(rawValue: 1 << 18)
  /// A writable mapping, of mmap.
  public static let writableMapping = TraceEventFlags(rawValue: 1 << 19)

  /// Each bit's name in dumps and CSV, lowest bit first.
  public static let names: [(flag: TraceEventFlags, name: String)] = [
    (.direct, "direct"), (.sync, "sync"), (.dataSync, "dsync"), (.append, "append"), (.inferredOffset, "inferred_offset"),
    (.inFlightAtAttach, "in_flight_at_attach"), (.buffered, "buffered"), (.sequentialCall, "sequential_call"),
    (.highPriority, "hipri"), (.noWait, "nowait"), (.requestDataSync, "rwf_dsync"), (.requestSync, "rwf_sync"),
    (.vectored, "vectored"), (.asynchronous, "async"), (.create, "creat"), (.truncating, "trunc"),
    (.openRead, "open_read"), (.openWrite, "open_write"), (.sharedMapping, "map_shared"),
    (.writableMapping, "map_writable"),
  ]

  /// The set bits' names joined by `|`; bits without a name as `0x…`.
  public var description: String {
    if isEmpty { return "" }
    var parts: [String] = []
    var rest = rawValue
    for (flag, name) in Self.names where contains(flag) {
      parts.append(name)
      rest &= ~flag.rawValue
    }
    if rest != 0 { parts.append("0x" + String(rest, radix: 16)) }
    return parts.joined(separator: "|")
  }
}
