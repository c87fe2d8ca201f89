import CTrace
import Glibc

/// Says that a recorder lives: a locked file in a run directory, named by its process.
///
/// Instances of tracefs carry their owner's number. One whose owner's lock can be had, or whose owner has neither lock nor
/// process, is abandoned.
final class TraceInstanceLock {
  private let path: String
  private let descriptor: Int32

  /// The first of /run, $XDG_RUNTIME_DIR and /tmp that can be written; made when it is not there.
  private static var folder: String {
    let runtime = getenv("XDG_RUNTIME_DIR").map { String(cString: $0) }
    let candidates: [String] = ["/run"] + (runtime.map { [$0] } ?? [])
    let base = candidates.first { access($0, W_OK | X_OK) == 0 } ?? "/tmp"
    return "\(base)/trace-record"
  }

  /// Removes abandoned instances, then takes this process's lock.
  init(_ tracefs: Tracefs) throws(TraceError) {
    let folder = Self.folder
    mkdir(folder, 0o700)
    var status = stat()
    guard lstat(folder, &status) == 0, FileMode.kind(status.st_mode) == .directory, status.st_uid == geteuid() else {
      throw TraceError(.refused, "\(folder): not a folder of this user, so no locks are kept in it")
    }
    Self.removeAbandoned(tracefs)
    path = "\(folder)/\(TraceInstance.prefix)\(getpid()).lock"
    descriptor = ctrace_open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw TraceError(path: path, "make a lock", errno: errno) }
    // Who looks whether we live has it for a moment.
    guard flock(descriptor, LOCK_EX) == 0 else {
      let code = errno
      close(descriptor)
      throw TraceError(path: path, "lock it", errno: code)
    }
  }

  deinit { release() }

  private var isReleased = false

  func release() {
    guard !isReleased else { return }
    isReleased = true
    unlink(path)
    close(descriptor)
  }

  /// Removes the instances of dead recorders. The kernel itself refuses to remove one that somebody has open.
  static func removeAbandoned(_ tracefs: Tracefs) {
    let folder = folder
    for name in SmallFile.names(in: "\(tracefs.root)/instances") where name.hasPrefix(TraceInstance.prefix) {
      let digits = name.dropFirst(TraceInstance.prefix.count).prefix { $0.isNumber }
      guard let owner = Int32(digits) else { continue }
      if ownerIsDead(owner, lock: "\(folder)/\(TraceInstance.prefix)\(owner).lock") { rmdir("\(tracefs.root)/instances/\(name)") }
    }
    let instances = Set(SmallFile.names(in: "\(tracefs.root)/instances"))
    for name in SmallFile.names(in: folder) where name.hasPrefix(TraceInstance.prefix) && name.hasSuffix(".lock") {
      let stem = String(name.dropLast(5))
      guard !instances.contains(where: { $0.hasPrefix(stem) }), let owner = Int32(stem.dropFirst(TraceInstance.prefix.count)) else {
        continue
      }
      if kill(owner, 0) != 0, errno == ESRCH, ownerIsDead(owner, lock: "\(folder)/\(name)") { unlink("\(folder)/\(name)") }
    }
  }

  private static func ownerIsDead(_ owner: Int32, lock: String) -> Bool {
    let descriptor = ctrace_open(lock, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0)
    guard descriptor >= 0 else { return kill(owner, 0) != 0 && errno == ESRCH }
    defer { close(descriptor) }
    return flock(descriptor, LOCK_EX | LOCK_NB) == 0
  }
}
