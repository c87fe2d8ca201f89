import CTrace
import Glibc

/// The page cache before a run: evicting targets, and saying how much of them it holds.
enum TargetCache {
  /// Evicts the targets' own pages: what is dirty is written back first.
  static func evict(_ targets: [ReplayTarget]) throws(TraceError) {
    for target in targets where target.descriptor >= 0 {
      let code = ctrace_drop_cached_pages(target.descriptor)
      guard code == 0 else { throw TraceError(path: target.path, "evict its pages", errno: code, hint: "--cold asks for it") }
    }
  }

  /// Drops the page cache, and cached names and inodes, of the whole machine (/proc/sys/vm/drop_caches).
  static func dropSystem() throws(TraceError) {
    sync()
    let path = "/proc/sys/vm/drop_caches"
    let descriptor = ctrace_open(path, O_WRONLY | O_CLOEXEC, 0)
    guard descriptor >= 0 else {
      throw TraceError(path: path, "write to it", errno: errno, hint: "--drop-caches system needs root; --cold evicts the targets only")
    }
    defer { close(descriptor) }
    guard write(descriptor, "3", 1) == 1 else { throw TraceError(path: path, "write to it", errno: errno) }
  }

  /// How much of the targets is cached, for the report: `0 B of 3.0 MiB cached`.
  static func state(_ targets: [ReplayTarget]) -> String {
    var (cached, all): (UInt64, UInt64) = (0, 0)
    for target in targets where target.descriptor >= 0 {
      let bytes = ctrace_cached_bytes(target.descriptor)
      guard bytes >= 0 else { return "not known" }
      cached += UInt64(bytes)
      all += UInt64(max(0, lseek(target.descriptor, 0, SEEK_END)))
    }
    return "\(ByteCount.text(min(cached, all))) of \(ByteCount.text(all)) cached"
  }
}
