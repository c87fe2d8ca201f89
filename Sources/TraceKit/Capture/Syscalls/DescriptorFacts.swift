import CTrace
import Glibc

/// What /proc says of an open descriptor of another process.
struct DescriptorFacts: Sendable {
  /// Absolute path, or `socket:[123]` and the like.
  var path: [UInt8]
  var kind: TraceFile.Kind
  /// major << 32 | minor of the filesystem.
  var device: UInt64
  var representedDevice: UInt64
  var inode: UInt64
  var birthNanoseconds: Int64
  /// Bytes; nil for what has no size.
  var sizeBytes: UInt64?
  var filesystemType: UInt64
  /// Position and open(2) flags, where they were asked for.
  var position: Int64?
  var openFlags: UInt32?
  /// CLOCK_MONOTONIC when it was read.
  var nanoseconds: UInt64

  /// Looks descriptor `number` of `process` up.
  /// - Parameter withPosition: read /proc/PID/fdinfo too.
  /// - Returns: nil when the process or the descriptor is gone, or may not be looked at.
  init?(process: Int32, descriptor number: Int32, withPosition: Bool) {
    let link = "/proc/\(process)/fd/\(number)"
    guard let name = Self.target(of: link) else { return nil }
    var status = stat()
    var birth = Int64.min
    guard ctrace_status(link, &status, &birth) == 0 else { return nil }
    var filesystem = statfs()
    filesystemType = statfs(link, &filesystem) == 0 ? UInt64(bitPattern: Int64(filesystem.f_type)) : 0
    path = Self.plain(name, isRemoved: status.st_nlink == 0)
    kind = Self.kind(status.st_mode, name)
    device = Self.split(status.st_dev)
    representedDevice = kind == .blockDevice || kind == .characterDevice ? Self.split(status.st_rdev) : 0
    inode = UInt64(status.st_ino)
    birthNanoseconds = birth
    sizeBytes = kind == .regular ? UInt64(max(0, status.st_size)) : nil
    if kind == .blockDevice { sizeBytes = Self.deviceBytes(status.st_rdev) }
    if withPosition, let text = SmallFile.text("/proc/\(process)/fdinfo/\(number)", limitBytes: 4096) {
      (position, openFlags) = Self.information(text)
    }
    nanoseconds = UInt64(ctrace_monotonic_ns())
  }

  /// What is known of a file that was closed before it could be looked up: the name by which it was opened, and what has that name now,
  /// unless that was made later.
  /// - Parameter root: the folder that absolute paths begin in; −1 when there is none.
  init(given: GivenName, root: Int32) {
    path = given.plainPath
    (kind, device, representedDevice, inode, birthNanoseconds, filesystemType) = (
      given.creates ? .regular : .unknown, 0, 0, 0, Int64.min, 0
    )
    openFlags = given.flags
    nanoseconds = UInt64(ctrace_monotonic_ns())
    let found = given.open(below: root)
    guard found >= 0 else { return }
    defer { close(found) }
    var status = stat()
    var birth = Int64.min
    guard ctrace_status("/proc/self/fd/\(found)", &status, &birth) == 0, !given.isOlder(than: birth) else { return }
    if let name = Self.target(of: "/proc/self/fd/\(found)"), name.first == UInt8(ascii: "/") {
      path = Self.plain(name, isRemoved: status.st_nlink == 0)
    }
    kind = FileMode.kind(status.st_mode)
    device = Self.split(status.st_dev)
    inode = UInt64(status.st_ino)
    birthNanoseconds = birth
    if kind == .regular { sizeBytes = UInt64(max(0, status.st_size)) }
    if kind == .blockDevice || kind == .characterDevice { representedDevice = Self.split(status.st_rdev) }
  }

  /// Looks a device file up by its path; nil when it is gone.
  init?(device path: String) {
    var status = stat()
    var birth = Int64.min
    guard let absolute = realpath(path, nil) else { return nil }
    defer { free(absolute) }
    guard ctrace_status(absolute, &status, &birth) == 0 else { return nil }
    self.path = Array(String(cString: absolute).utf8)
    kind = FileMode.kind(status.st_mode)
    device = Self.split(status.st_dev)
    representedDevice = Self.split(status.st_rdev)
    inode = UInt64(status.st_ino)
    birthNanoseconds = birth
    sizeBytes = Self.deviceBytes(status.st_rdev)
    filesystemType = 0
    nanoseconds = UInt64(ctrace_monotonic_ns())
  }

  /// `pos:	1024` and `flags:	0100002` (octal).
  static func information(_ text: String) -> (position: Int64?, openFlags: UInt32?) {
    var position: Int64?
    var flags: UInt32?
    for line in text.split(separator: "\n") {
      let parts = line.split(whereSeparator: { $0 == "\t" || $0 == " " })
      guard parts.count == 2 else { continue }
      if parts[0] == "pos:" { position = Int64(parts[1]) }
      if parts[0] == "flags:" { flags = UInt32(parts[1], radix: 8) }
    }
    return (position, flags)
  }

  /// Where a link leads.
  static func target(of link: String) -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: 4097)
    let count = buffer.withUnsafeMutableBytes { readlink(link, $0.baseAddress!.assumingMemoryBound(to: CChar.self), 4096) }
    return count > 0 ? Array(buffer[0..<count]) : nil
  }

  /// Without the mark that the kernel puts behind the name of a removed file.
  private static func plain(_ name: [UInt8], isRemoved: Bool) -> [UInt8] {
    let mark = Array(" (deleted)".utf8)
    return isRemoved && name.count > mark.count && name.suffix(mark.count).elementsEqual(mark) ? Array(name.dropLast(mark.count)) : name
  }

  private static func kind(_ mode: mode_t, _ name: [UInt8]) -> TraceFile.Kind {
    if name.starts(with: "anon_inode:".utf8) { return .anonymous }
    return FileMode.kind(mode)
  }

  private static func split(_ device: UInt) -> UInt64 {
    UInt64(UInt32(bitPattern: ctrace_major(UInt64(device)))) << 32 | UInt64(UInt32(bitPattern: ctrace_minor(UInt64(device))))
  }

  private static func deviceBytes(_ device: UInt) -> UInt64? {
    let name = "/sys/dev/block/\(ctrace_major(UInt64(device))):\(ctrace_minor(UInt64(device)))/size"
    return SmallFile.line(name).flatMap { UInt64($0) }.map { $0 &* 512 }
  }
}
