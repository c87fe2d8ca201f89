import CTrace
import Glibc

/// The run directory that a collector shares with the programs it records: created here, removed at the end.
///
/// Not for several threads at once, but for `isActive`.
public final class PreloadSession: @unchecked Sendable {
  /// What a thread does whose ring is full.
  public enum FullRing: String, CaseIterable, Sendable {
    /// Counts the event as dropped and goes on.
    case drop
    /// Waits for room as long as the collector lives.
    case block
  }

  /// Absolute path of the run directory.
  public let folder: String
  let shared: UnsafeMutablePointer<trace_session>
  /// Holds the lock that says that this session's owner lives.
  private let lock: Int32
  private static let prefix = "trace-record."
  static let variable = TRACE_RUN_VARIABLE

  /// - Parameters:
  ///   - ringBytes: memory of each thread's ring; rounded down to a power of two, 64 KiB at least.
  ///   - parent: the folder to work in; nil takes /dev/shm, $XDG_RUNTIME_DIR or /tmp, whichever can be written first.
  /// - Throws: when the folder or its files can't be made.
  public init(ringBytes: Int, onFull: FullRing, parent: String? = nil) throws(TraceError) {
    let base = try Self.baseFolder(parent)
    Self.removeAbandoned(in: base)
    folder = try Self.makeFolder(in: base)
    lock = try Self.takeLock(folder)
    shared = try Self.mapSession(folder)
    let records = max(1024, min(1 << 22, ringBytes / MemoryLayout<trace_record>.stride))
    shared.pointee.version = TRACE_RING_VERSION
    shared.pointee.collector_pid = getpid()
    shared.pointee.on_full = onFull == .block ? 1 : 0
    shared.pointee.record_count = UInt32(1 << (Int.bitWidth - 1 - records.leadingZeroBitCount))
    var namespace = stat()
    if stat("/proc/self/ns/pid", &namespace) == 0 { shared.pointee.process_namespace = UInt64(namespace.st_ino) }
    shared.pointee.active = 1
    shared.pointee.magic = TRACE_SESSION_MAGIC
  }

  deinit {
    munmap(shared, MemoryLayout<trace_session>.stride)
    close(lock)
  }

  /// Whether events are wanted. Cleared, programs run on unrecorded; it can't be set again.
  var isActive: Bool { ctrace_load_acquire32(pointer(\.active)) != 0 }
  func stop() { ctrace_store_release32(pointer(\.active), 0) }

  func pointer(_ field: WritableKeyPath<trace_session, UInt32>) -> UnsafeMutablePointer<UInt32> {
    let offset = MemoryLayout<trace_session>.offset(of: field) ?? 0
    return (UnsafeMutableRawPointer(shared) + offset).assumingMemoryBound(to: UInt32.self)
  }

  /// Removes the run directory. Programs that still have parts of it mapped keep them.
  public func remove() {
    stop()
    Self.remove(folder)
  }

  // MARK: Folders

  private static func baseFolder(_ given: String?) throws(TraceError) -> String {
    if let given {
      guard let absolute = realpath(given, nil) else { throw TraceError(path: given, "use it as run directory", errno: errno) }
      defer { free(absolute) }
      return String(cString: absolute)
    }
    let runtime = getenv("XDG_RUNTIME_DIR").map { String(cString: $0) }
    let candidates = ["/dev/shm"] + (runtime.map { [$0] } ?? []) + ["/tmp"]
    return candidates.first { access($0, W_OK | X_OK) == 0 } ?? "/tmp"
  }

  private static func makeFolder(in base: String) throws(TraceError) -> String {
    var template = Array("\(base)/\(prefix)XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      throw TraceError(path: base, "make a run directory in it", errno: errno, hint: "--run-dir names another folder")
    }
    return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  private static func takeLock(_ folder: String) throws(TraceError) -> Int32 {
    let descriptor = ctrace_open("\(folder)/lock", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw TraceError(path: folder, "make a lock in it", errno: errno) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { throw TraceError(path: folder, "lock it", errno: errno) }
    return descriptor
  }

  private static func mapSession(_ folder: String) throws(TraceError) -> UnsafeMutablePointer<trace_session> {
    let bytes = MemoryLayout<trace_session>.stride
    let descriptor = ctrace_open("\(folder)/session", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw TraceError(path: folder, "make a session in it", errno: errno) }
    defer { close(descriptor) }
    let code = posix_fallocate(descriptor, 0, off_t(bytes))
    guard code == 0 else { throw TraceError(path: folder, "allocate a session in it", errno: code) }
    guard let mapped = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), mapped != MAP_FAILED else {
      throw TraceError(path: folder, "map a session in it", errno: errno)
    }
    return mapped.assumingMemoryBound(to: trace_session.self)
  }

  /// Removes run directories of this user whose recorder is dead: nobody holds their lock.
  private static func removeAbandoned(in base: String) {
    for name in SmallFile.names(in: base) where name.hasPrefix(prefix) {
      let path = "\(base)/\(name)"
      var status = stat()
      guard lstat(path, &status) == 0, FileMode.kind(status.st_mode) == .directory, status.st_uid == geteuid() else { continue }
      let descriptor = ctrace_open("\(path)/lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0)
      if descriptor < 0 {
        // Another recorder may be between making the folder and its lock.
        if errno == ENOENT, time(nil) - status.st_mtim.tv_sec > 60 { remove(path) }
        continue
      }
      var lockStatus = stat()
      let settled = fstat(descriptor, &lockStatus) == 0 && time(nil) - lockStatus.st_mtim.tv_sec > 1
      if settled, flock(descriptor, LOCK_EX | LOCK_NB) == 0 { remove(path) }
      close(descriptor)
    }
  }

  private static func remove(_ folder: String) {
    for name in SmallFile.names(in: folder) where name == "lock" || name == "session" || name.hasPrefix("ring.") {
      unlink("\(folder)/\(name)")
    }
    rmdir(folder)
  }
}
