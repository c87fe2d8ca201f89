import CTrace
import Glibc

/// A program that can't be started, or not recorded, with the exit status that says so.
public struct ProgramRefusal: Error, Hashable, Sendable {
  /// 127 when the program was not found, else 126, as in a shell.
  public var exitStatus: Int32
  public var message: String
  /// Only the preload route can't record it.
  public var isOfPreloading = false
}

/// Finds a program as a shell does, and looks whether a preloaded library can record it, before it is started.
public enum ProgramCheck {
  /// The path of the file to execute.
  /// - Parameter searchPath: folders separated by colons, as in $PATH.
  public static func resolve(_ program: String, searchPath: String) throws(ProgramRefusal) -> String {
    let shown = PrintableText.escaped(program)
    if program.contains("/") {
      var status = stat()
      guard stat(program, &status) == 0 else {
        let missing = errno == ENOENT || errno == ENOTDIR
        throw ProgramRefusal(exitStatus: missing ? 127 : 126, message: "\(shown): \(String(cString: strerror(errno)))")
      }
      return program
    }
    var denied = false
    for folder in searchPath.split(separator: ":", omittingEmptySubsequences: false) {
      let path = folder.isEmpty ? "./\(program)" : "\(folder)/\(program)"
      var status = stat()
      guard !program.isEmpty, stat(path, &status) == 0, FileMode.kind(status.st_mode) == .regular else { continue }
      if access(path, X_OK) == 0 { return path }
      denied = true
    }
    if denied { throw ProgramRefusal(exitStatus: 126, message: "\(shown): found on PATH, but may not be executed") }
    throw ProgramRefusal(exitStatus: 127, message: "\(shown): no such program on PATH")
  }

  /// Refuses what the preload route can't record.
  public static func check(_ path: String) throws(ProgramRefusal) { try check(path, depth: 0) }

  private static func check(_ path: String, depth: Int) throws(ProgramRefusal) {
    let shown = PrintableText.escaped(path)
    var status = stat()
    guard stat(path, &status) == 0 else { throw refused("\(shown): \(String(cString: strerror(errno)))") }
    guard FileMode.kind(status.st_mode) != .directory else { throw refused("\(shown): is a directory") }
    guard access(path, X_OK) == 0 else { throw refused("\(shown): \(String(cString: strerror(errno)))") }
    // A program that may be executed but not read is started unexamined.
    guard let start = SmallFile.bytes(path, limitBytes: 65_536) else { return }
    if start.starts(with: "#!".utf8) {
      guard depth < 4, let interpreter = interpreter(of: start) else { return }
      return try check(interpreter, depth: depth + 1)
    }
    guard start.starts(with: [0x7F, 0x45, 0x4C, 0x46]) else {
      throw refused("\(shown): neither a program nor a script with a #! line")
    }
    try checkImage(start, shown)
    try checkPrivileges(path, status, shown)
  }

  private static let otherRoutes = "--route syscalls (or bpf) can record it, as root"

  private static func unloadable(_ message: String) -> ProgramRefusal {
    ProgramRefusal(exitStatus: 126, message: message, isOfPreloading: true)
  }

  /// The refusal of a program that the kernel did not execute.
  static func refusal(_ path: String, errno code: Int32) -> ProgramRefusal {
    ProgramRefusal(
      exitStatus: code == ENOENT ? 127 : 126, message: "\(PrintableText.escaped(path)): \(String(cString: strerror(code)))")
  }

  private static func refused(_ message: String) -> ProgramRefusal { ProgramRefusal(exitStatus: 126, message: message) }

  private static func interpreter(of script: [UInt8]) -> String? {
    let line = script.dropFirst(2).prefix { $0 != 0x0A }
    guard let word = line.split(whereSeparator: { $0 == 0x20 || $0 == 0x09 }).first else { return nil }
    return String(decoding: word, as: UTF8.self)
  }

  /// The machine number of this build in an ELF header (elf.h).
  private static var ownMachine: UInt16 {
    #if arch(x86_64)
      62
    #elseif arch(arm64)
      183
    #else
      0
    #endif
  }

  /// Looks at the ELF header and its program headers (elf(5)).
  private static func checkImage(_ bytes: [UInt8], _ shown: String) throws(ProgramRefusal) {
    func number(_ offset: Int, _ size: Int) -> Int {
      guard offset >= 0, offset + size <= bytes.count else { return 0 }
      return (0..<size).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
    }
    let is64 = number(4, 1) == 2
    guard is64 else { throw refused("\(shown): a 32-bit program; no route records the calls of 32-bit programs") }
    guard UInt16(number(18, 2)) == ownMachine else {
      throw unloadable("\(shown): a program for another processor; its loader can't load this machine's recorder; \(otherRoutes)")
    }
    let (table, entryBytes, count) = (number(32, 8), number(54, 2), number(56, 2))
    guard entryBytes >= 56, table < 65_536, table + count * entryBytes <= bytes.count else { return }
    for i in 0..<count where number(table + i * entryBytes, 4) == 3 {
      let (offset, length) = (number(table + i * entryBytes + 8, 8), number(table + i * entryBytes + 32, 8))
      guard offset >= 0, length > 0, length < 4096, offset < bytes.count - length else { return }
      let loader = String(decoding: bytes[offset..<offset + length - 1], as: UTF8.self)
      if loader.contains("musl") {
        throw unloadable(
          "\(shown): linked with musl; the recorder's library needs the GNU C library; \(otherRoutes)")
      }
      return
    }
    throw unloadable(
      "\(shown): statically linked, so no library can be loaded into it to record its calls; \(otherRoutes)")
  }

  /// The loader ignores preloaded libraries where a program gains rights (ld.so(8), secure-execution mode).
  private static func checkPrivileges(_ path: String, _ status: stat, _ shown: String) throws(ProgramRefusal) {
    let remedy = "so the loader loads no library into it to record its calls; \(otherRoutes)"
    if status.st_mode & 0o4000 != 0, status.st_uid != getuid() {
      throw unloadable("\(shown): setuid to user \(status.st_uid), \(remedy)")
    }
    if status.st_mode & 0o2010 == 0o2010, status.st_gid != getgid() {
      throw unloadable("\(shown): setgid to group \(status.st_gid), \(remedy)")
    }
    if getuid() != 0, getxattr(path, "security.capability", nil, 0) > 0 {
      throw unloadable("\(shown): has file capabilities, \(remedy)")
    }
  }
}
