import CTrace
import Foundation
import Testing

/// Whether this user may trace by tracefs; where it is not mounted, the recorder mounts it for itself.
let tracingIsPossible: Bool = {
  guard geteuid() == 0 else { return false }
  let descriptor = ctrace_detached_mount("tracefs")
  if descriptor >= 0 { close(descriptor) }
  return descriptor >= 0
}()

/// The routes of system calls that this kernel and this user have, by what they offer and not by what the recorder makes of it.
let callRoutes: [String] = {
  guard tracingIsPossible else { return [] }
  #if arch(x86_64)
    let types = FileManager.default.contents(atPath: "/sys/kernel/btf/vmlinux") ?? Data()
    let map = ctrace_bpf_make_memory(4096)
    if map >= 0 { close(map) }
    return (map >= 0 && types.range(of: Data("bpf_rdonly_cast\0".utf8)) != nil ? ["bpf"] : []) + ["syscalls"]
  #else
    return ["syscalls"]
  #endif
}()

/// The tracing instances of recorders that are there.
func tracingInstances() -> [String] {
  let descriptor = ctrace_detached_mount("tracefs")
  guard descriptor >= 0 else { return [] }
  defer { close(descriptor) }
  let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd/\(descriptor)/instances")) ?? []
  return names.filter { $0.hasPrefix("iotrace-") }
}

/// Waits until `condition` holds; false when it does not within 30 s.
func eventually(_ condition: () -> Bool) -> Bool {
  let end = Date().addingTimeInterval(30)
  while !condition() {
    if Date() > end { return false }
    usleep(10_000)
  }
  return true
}

/// A recorder that has begun: `attach` or `block` with the given arguments.
struct RunningRecorder {
  let command: StartedCommand

  init(_ arguments: [String]) throws {
    let started = try StartedCommand(traceRecord, arguments)
    command = started
    // It says so when it has begun, and also when it can't.
    _ = eventually { started.stderrSoFar.contains("\n") }
    let said = started.stderrSoFar
    try #require(said.contains("attached to") || said.contains("recording /"), "\(said)")
  }

  /// Ends it as Ctrl-C does.
  func stop() -> CommandResult {
    kill(command.processID, SIGINT)
    return command.wait()
  }
}

/// A loop device over a file of its own, detached with the last reference to it.
final class LoopDevice {
  let path: String
  private let folder: TemporaryFolder

  init(bytes: Int, options: [String] = []) throws {
    folder = try TemporaryFolder()
    let image = folder / "image"
    FileManager.default.createFile(atPath: image, contents: nil)
    try #require(truncate(image, off_t(bytes)) == 0)
    let made = try run("losetup", ["--find", "--show"] + options + [image])
    try #require(made.status == 0, "\(made.stderr)")
    path = made.stdout.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  deinit { _ = try? run("losetup", ["--detach", path]) }
}

/// `info --json` of a trace.
func information(_ trace: String) throws -> [String: Any] {
  let result = try run(traceRecord, ["info", "--json", "-", trace])
  try #require(result.status == 0, "\(result.stderr)")
  return try #require(try JSONSerialization.jsonObject(with: Data(result.stdout.utf8)) as? [String: Any])
}

/// A figure of the metadata's summary.
func figure(_ information: [String: Any], _ name: String) throws -> Int {
  let metadata = try #require(information["metadata"] as? [String: Any])
  let summary = try #require(metadata["summary"] as? [String: Any])
  return try #require((summary[name] as? String).flatMap { Int($0) }, "no figure \(name)")
}
