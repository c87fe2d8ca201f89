/// One operation for an engine: plain memory, filled in by the replay.
public struct IOOperation: BitwiseCopyable {
  /// What an engine can be asked to do.
  public enum Kind: UInt8, BitwiseCopyable, CaseIterable, Sendable {
    case read, write, fsync, fdatasync, syncFileRange, truncate, allocate, discard

    /// The kind that replays an operation of a trace, or nil when it isn't replayed.
    public init?(_ operation: TraceOperation) {
      switch operation {
      case .read: self = .read
      case .write: self = .write
      case .fsync, .flush: self = .fsync
      case .fdatasync: self = .fdatasync
      case .syncFileRange: self = .syncFileRange
      case .truncate: self = .truncate
      case .allocate: self = .allocate
      case .discard: self = .discard
      default: return nil
      }
    }

    /// It changes a file's content or size.
    public var changesData: Bool {
      switch self {
      case .write, .truncate, .allocate, .discard: true
      case .read, .fsync, .fdatasync, .syncFileRange: false
      }
    }

    /// It orders what comes before it against what comes after it, on its file.
    public var isBarrier: Bool {
      switch self {
      case .fsync, .fdatasync, .truncate, .allocate, .discard: true
      case .read, .write, .syncFileRange: false
      }
    }

    /// The operation's name in reports: that of the trace.
    public var name: String { traceOperation.name }

    public var traceOperation: TraceOperation {
      switch self {
      case .read: .read
      case .write: .write
      case .fsync: .fsync
      case .fdatasync: .fdatasync
      case .syncFileRange: .syncFileRange
      case .truncate: .truncate
      case .allocate: .allocate
      case .discard: .discard
      }
    }
  }

  public var kind: Kind
  /// The target takes this operation with O_DIRECT.
  public var isDirect = false
  /// The next request goes the same way and is due already; only for engines that look ahead.
  public var isFollowed = false
  /// The target is a block device.
  public var isBlockDevice: Bool
  public var fileDescriptor: Int32
  /// Place of the descriptor in `EngineConfiguration.descriptors`.
  public var fileIndex: Int32 = -1
  /// RWF_* of preadv2(2) and pwritev2(2); the mode of fallocate(2).
  public var flags: Int32
  /// `lengthBytes` of memory for reads and writes, aligned to a page.
  public var buffer: UnsafeMutableRawPointer?
  public var offsetBytes: Int64
  public var lengthBytes: Int
}
extension IOOperation: @unchecked Sendable {}
