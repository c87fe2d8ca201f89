/// A row of a trace's file table: what a replay on another machine needs to know of a file.
public struct TraceFile: Hashable, Sendable {
  /// What kind of thing a descriptor stood for. The raw values are those of the trace format.
  public enum Kind: UInt8, CaseIterable, Sendable {
    case unknown = 0
    case regular = 1
    case blockDevice = 2
    case characterDevice = 3
    case directory = 4
    case pipe = 5
    case socket = 6
    case symbolicLink = 7
    /// eventfd, epoll, timerfd, memfd without a name and the like.
    case anonymous = 8

    public var name: String {
      switch self {
      case .unknown: "unknown"
      case .regular: "regular"
      case .blockDevice: "block_device"
      case .characterDevice: "character_device"
      case .directory: "directory"
      case .pipe: "pipe"
      case .socket: "socket"
      case .symbolicLink: "symbolic_link"
      case .anonymous: "anonymous"
      }
    }
  }

  /// Number of the row, counted from 0 in the order of first appearance; events refer to it.
  public var id: UInt32
  /// Absolute path, or the peer of a socket, as the bytes that the kernel knows: data, not necessarily UTF-8, never followed.
  public var path: [UInt8]
  public var kind: Kind
  /// Device number of the filesystem (major << 32 | minor), nil when not known.
  public var device: UInt64?
  public var inode: UInt64?
  /// Inodes are reused; with the birth time in nanoseconds since 1970 they are not.
  public var birthTimeNanoseconds: Int64?
  /// Size when the recorder first saw the file.
  public var sizeBytes: UInt64?
  /// open(2) flags of the first open that was seen.
  public var openFlags: UInt32?
  /// Filesystem type, as in statfs(2) f_type.
  public var filesystemType: UInt64?
  /// Device that a device file stands for (major << 32 | minor).
  public var representedDevice: UInt64?

  public init(
    id: UInt32 = 0, path: [UInt8], kind: Kind = .unknown, device: UInt64? = nil, inode: UInt64? = nil,
    birthTimeNanoseconds: Int64? = nil, sizeBytes: UInt64? = nil, openFlags: UInt32? = nil,
    filesystemType: UInt64? = nil, representedDevice: UInt64? = nil
  ) {
    self.id = id
    self.path = path
    self.kind = kind
    self.device = device
    self.inode = inode
    self.birthTimeNanoseconds = birthTimeNanoseconds
    self.sizeBytes = sizeBytes
    self.openFlags = openFlags
    self.filesystemType = filesystemType
    self.representedDevice = representedDevice
  }

  /// The path for people: UTF-8 as it is, control characters, quotes' backslash and broken bytes as `\xNN`.
  public var displayPath: String { PrintableText.escaped(path) }
}
