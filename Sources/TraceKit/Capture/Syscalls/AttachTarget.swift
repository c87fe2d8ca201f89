import CTrace
import Glibc

/// Which processes the routes of system calls record.
public enum AttachTarget: Hashable, Sendable {
  /// These processes, with their threads and children.
  case processes([Int32])
  /// Those of a cgroup and of the groups below it: an absolute folder of the cgroup filesystem, or a path below it.
  case cgroup(String)
  /// Those of this name, as in /proc/PID/comm (15 bytes at most).
  case name(String)
  /// Every process but the recorder.
  case all

  /// The processes that are meant at this moment, the recorder left out.
  /// - Throws: when there are none, the cgroup can't be found, or their numbers are not those that the kernel's tracing goes by.
  func find() throws(TraceError) -> [Int32] {
    try Self.checkNamespace()
    let own = getpid()
    let found: [Int32]
    switch self {
    case .processes(let numbers):
      for number in numbers {
        guard number > 0, access("/proc/\(number)", F_OK) == 0 else {
          throw TraceError(.refused, "--pid \(number): there is no such process")
        }
        if number == own { throw TraceError(.refused, "--pid \(number): that is trace-record itself") }
      }
      found = Self.withDescendants(numbers)
    case .cgroup(let path):
      found = try Self.members(of: path)
      if found.isEmpty { throw TraceError(.refused, "--cgroup \(PrintableText.escaped(path)): no process is in it") }
    case .name(let name):
      found = Self.allProcesses().filter { Self.name(of: $0) == name.utf8.prefix(15).map { $0 } }
      if found.isEmpty { throw TraceError(.refused, "--comm \(PrintableText.escaped(name)): no process has this name (see 'ps -eo comm')") }
    case .all: found = Self.allProcesses()
    }
    return Array(Set(found.filter { $0 != own })).sorted()
  }

  /// The processes that came since; empty where the kernel itself adds them.
  func findAgain() -> [Int32] {
    switch self {
    case .processes, .all: []
    case .cgroup, .name: (try? find()) ?? []
    }
  }

  /// Inode of the machine's own PID namespace (PROC_PID_INIT_INO of linux/proc_ns.h).
  private static let machineNamespace: UInt64 = 0xEFFF_FFFC

  private static func checkNamespace() throws(TraceError) {
    var status = stat()
    guard stat("/proc/self/ns/pid", &status) == 0, UInt64(status.st_ino) != machineNamespace else { return }
    throw TraceError(
      .refused,
      "the kernel's tracing goes by the process numbers of the machine, and this is a PID namespace of its own (a container): "
        + "record from outside with the numbers there; inside, 'trace-record run' works by its preload route")
  }

  /// Words for the trace's metadata.
  var described: String {
    switch self {
    case .processes(let numbers): "pid \(numbers.map(String.init).joined(separator: ","))"
    case .cgroup(let path): "cgroup \(path)"
    case .name(let name): "comm \(name)"
    case .all: "all"
    }
  }

  static func allProcesses() -> [Int32] { SmallFile.names(in: "/proc").compactMap { Int32($0) } }

  private static func name(of process: Int32) -> [UInt8]? {
    SmallFile.bytes("/proc/\(process)/comm", limitBytes: 64).map { Array($0.prefix { $0 != 0x0A }) }
  }

  private static func withDescendants(_ roots: [Int32]) -> [Int32] {
    var children: [Int32: [Int32]] = [:]
    for process in allProcesses() { if let parent = parent(of: process) { children[parent, default: []].append(process) } }
    var found: [Int32] = []
    var waiting = roots
    var seen = Set<Int32>()
    while let next = waiting.popLast() {
      guard seen.insert(next).inserted else { continue }
      found.append(next)
      waiting += children[next] ?? []
    }
    return found
  }

  private static func parent(of process: Int32) -> Int32? {
    guard let text = SmallFile.bytes("/proc/\(process)/stat", limitBytes: 1024) else { return nil }
    // The name in parentheses may hold any byte; behind it come the state and the parent.
    guard let close = text.lastIndex(of: UInt8(ascii: ")")) else { return nil }
    let fields = String(decoding: text[(close + 1)...], as: UTF8.self).split(separator: " ")
    return fields.count > 1 ? Int32(fields[1]) : nil
  }

  private static func members(of path: String) throws(TraceError) -> [Int32] {
    let candidates = path.hasPrefix("/sys/") ? [path] : ["/sys/fs/cgroup/\(path)", "/sys/fs/cgroup/unified/\(path)", path]
    guard let folder = candidates.first(where: { access("\($0)/cgroup.procs", R_OK) == 0 }) else {
      throw TraceError(
        .refused,
        "--cgroup \(PrintableText.escaped(path)): no such cgroup (looked for cgroup.procs in \(PrintableText.escaped(candidates[0])))")
    }
    var found: [Int32] = []
    var waiting = [folder]
    while let next = waiting.popLast(), found.count < 1 << 20 {
      found += (SmallFile.text("\(next)/cgroup.procs", limitBytes: 16 << 20) ?? "").split(separator: "\n").compactMap { Int32($0) }
      waiting += SmallFile.names(in: next).map { "\(next)/\($0)" }.filter { access("\($0)/cgroup.procs", R_OK) == 0 }
    }
    return found
  }
}
