import CTrace
import Glibc

/// The name by which a program opened a file, as it stood in the program's memory.
struct GivenName: Sendable {
  /// Among the stream's processes.
  var process: Int32
  /// From the root, where the folder of a relative path is known.
  var absolute: [UInt8]?
  /// As given.
  private var path: [UInt8]
  /// Flags of open(2); nil where the call keeps them in memory.
  var flags: UInt32?
  /// When it was open (CLOCK_MONOTONIC).
  private var nanoseconds: UInt64

  private static let slash = UInt8(ascii: "/")

  /// - Parameter folder: what a relative path begins with; nil when that is not known.
  init(_ path: [UInt8], in folder: [UInt8]?, process: Int32, flags: UInt32?, nanoseconds: UInt64) {
    self.process = process
    self.path = path
    self.flags = flags
    self.nanoseconds = nanoseconds
    absolute = Self.join(folder, path)
  }

  private func has(_ flag: Int32) -> Bool { flags.map { Int32(bitPattern: $0) & flag == flag } ?? false }

  /// The call makes a regular file where there was none.
  var creates: Bool { has(O_CREAT) }

  /// The name is that of the folder in which the kernel makes a file without one (O_TMPFILE).
  var isOfFolderOnly: Bool { has(CTRACE_O_TMPFILE) }

  /// Other names may be relative to it: it may be a folder.
  var mayBeFolder: Bool {
    !creates && (has(CTRACE_O_DIRECTORY) || has(CTRACE_O_PATH) || Int32(bitPattern: flags ?? 1) & O_ACCMODE == O_RDONLY)
  }

  /// Without links being looked at: what `.` and `..` say is taken away.
  var plainPath: [UInt8] {
    let whole = absolute ?? path
    var parts: [ArraySlice<UInt8>] = []
    for part in whole.split(separator: Self.slash) where !part.elementsEqual(".".utf8) {
      if part.elementsEqual("..".utf8) { _ = parts.popLast() } else { parts.append(part) }
    }
    let joined = Array(parts.joined(separator: [Self.slash]))
    return absolute == nil ? joined : [Self.slash] + joined
  }

  /// A file that was made at `birth` (nanoseconds since 1970) is not the one that was opened.
  func isOlder(than birth: Int64) -> Bool {
    guard birth != Int64.min else { return false }
    let opened = ctrace_realtime_ns() &- (ctrace_monotonic_ns() &- Int64(bitPattern: nanoseconds))
    return birth > opened
  }

  /// What has the name now, opened for looking at it only; −1 when nothing has. The kernel keeps the walk below `root`, and away from
  /// links of /proc, which would lead to what is the recorder's.
  func open(below root: Int32) -> Int32 {
    guard root >= 0, var place = absolute else { return -1 }
    place.append(0)
    // RESOLVE_NO_MAGICLINKS and RESOLVE_IN_ROOT of linux/openat2.h.
    return place.withUnsafeBytes {
      ctrace_openat2(root, $0.baseAddress!.assumingMemoryBound(to: CChar.self), UInt64(CTRACE_O_PATH | O_CLOEXEC), 0, 0x02 | 0x10)
    }
  }

  /// An absolute path of one that may be relative to a folder; nil when the folder is not known.
  static func join(_ folder: [UInt8]?, _ path: [UInt8]) -> [UInt8]? {
    if path.first == slash { return path }
    guard let folder else { return nil }
    return folder.last == slash ? folder + path : folder + [slash] + path
  }

  /// Where a link of /proc leads, when that is a path.
  static func folder(_ link: String) -> [UInt8]? { DescriptorFacts.target(of: link).flatMap { $0.first == slash ? $0 : nil } }

  // MARK: Views of the filesystem

  /// The root folder of the first of these processes that still lives, or the recorder's own; −1 when there is none. To be closed.
  static func root(of processes: [Int32], orOwn usesOwn: Bool) -> Int32 {
    for process in processes {
      let root = ctrace_open("/proc/\(process)/root", CTRACE_O_PATH | O_CLOEXEC, 0)
      if root >= 0 { return root }
    }
    return usesOwn ? ctrace_open("/", CTRACE_O_PATH | O_CLOEXEC, 0) : -1
  }

  /// A process sees the files that the recorder sees, under the same names.
  static func seesOwnFiles(_ process: Int32) -> Bool {
    func isSame(_ name: String) -> Bool {
      var (theirs, ours) = (stat(), stat())
      guard stat("/proc/\(process)/\(name)", &theirs) == 0, stat("/proc/self/\(name)", &ours) == 0 else { return false }
      return theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino
    }
    return isSame("ns/mnt") && isSame("root")
  }
}
