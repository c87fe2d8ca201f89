import CTrace
import Glibc

/// What /proc tells of a process at attach: its threads, and what its descriptors stand for.
struct ProcessSnapshot: Sendable {
  /// What a descriptor stands for.
  enum Source: Sendable {
    case facts(DescriptorFacts)
    /// The open file description of a descriptor that was looked at before.
    case same(process: Int32, descriptor: Int32, openFlags: UInt32?)

    var openFlags: UInt32? {
      switch self {
      case .facts(let facts): facts.openFlags
      case .same(_, _, let flags): flags
      }
    }
  }
  var process: Int32
  var parent: Int32
  var threads: [Int32]
  var descriptors: [(descriptor: Int32, source: Source)] = []
  /// Shared mappings of files: I/O through them is not seen.
  var sharedMappings = 0
  /// The folder that it works in, and when that was looked at (CLOCK_MONOTONIC); nil when it could not be.
  var folder: (path: [UInt8], nanoseconds: UInt64)?
  /// It sees the files that the recorder sees, under the same names.
  var seesOwnFiles: Bool

  /// Descriptions seen so far: processes related by fork share them.
  struct Known {
    struct Key: Hashable {
      var device: UInt64
      var inode: UInt64
      var openFlags: UInt32
    }
    var places: [Key: [(process: Int32, descriptor: Int32)]] = [:]
  }

  /// Looks at a process; nil when it is gone.
  init?(_ process: Int32, known: inout Known) {
    guard let status = SmallFile.text("/proc/\(process)/status", limitBytes: 16_384) else { return nil }
    self.process = process
    folder = GivenName.folder("/proc/\(process)/cwd").map { ($0, UInt64(ctrace_monotonic_ns())) }
    seesOwnFiles = GivenName.seesOwnFiles(process)
    parent = Self.number("PPid:", in: status) ?? 0
    threads = Self.threads(of: process)
    guard !threads.isEmpty else { return nil }
    for name in SmallFile.names(in: "/proc/\(process)/fd") {
      guard let descriptor = Int32(name), let facts = DescriptorFacts(process: process, descriptor: descriptor, withPosition: true) else {
        continue
      }
      descriptors.append((descriptor, Self.source(facts, process, descriptor, &known)))
    }
    sharedMappings = Self.sharedMappings(process)
  }

  private static func source(_ facts: DescriptorFacts, _ process: Int32, _ descriptor: Int32, _ known: inout Known) -> Source {
    let closeOnExec = UInt32(O_CLOEXEC)
    let key = Known.Key(device: facts.device, inode: facts.inode, openFlags: (facts.openFlags ?? 0) & ~closeOnExec)
    let places = known.places[key] ?? []
    for place in places.suffix(32) where ctrace_same_description(place.process, place.descriptor, process, descriptor) != 0 {
      return .same(process: place.process, descriptor: place.descriptor, openFlags: facts.openFlags)
    }
    known.places[key] = places + [(process, descriptor)]
    return .facts(facts)
  }

  /// The threads of a process; empty when it is gone.
  static func threads(of process: Int32) -> [Int32] { SmallFile.names(in: "/proc/\(process)/task").compactMap { Int32($0) } }

  /// The process that a thread is of.
  static func threadGroup(of thread: Int32) -> Int32? {
    SmallFile.text("/proc/\(thread)/status", limitBytes: 16_384).flatMap { number("Tgid:", in: $0) }
  }

  private static func number(_ field: String, in status: String) -> Int32? {
    for line in status.split(separator: "\n") where line.hasPrefix(field) {
      return Int32(line.dropFirst(field.count).drop { $0 == "\t" || $0 == " " })
    }
    return nil
  }

  /// `7f0000000000-7f0000001000 rw-s 00000000 08:01 131 /data/map`
  private static func sharedMappings(_ process: Int32) -> Int {
    guard let text = SmallFile.text("/proc/\(process)/maps", limitBytes: 4 << 20) else { return 0 }
    var count = 0
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
      guard parts.count == 6, parts[1].hasSuffix("s"), parts[4] != "0" else { continue }
      // Shared memory without a file of its own is no I/O.
      if !parts[5].hasPrefix("/dev/zero"), !parts[5].hasPrefix("/SYSV"), !parts[5].hasPrefix("/memfd:"), !parts[5].hasPrefix("/dev/shm") {
        count += 1
      }
    }
    return count
  }
}
