import CTrace
import Foundation
import Testing

/// What a finished command left behind.
struct CommandResult {
  /// The exit status, or 128 + the signal's number, as a shell says it.
  var status: Int32
  /// The signal that ended the command, or nil.
  var signal: Int32?
  var stdout: String
  var stderr: String
}

/// The folder where the package manager put the executables: that of the running test bundle.
let builtProducts: String = {
  let own = URL(fileURLWithPath: (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? "")
  let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
  let candidates = [own.deletingLastPathComponent().path, package.path + "/.build/debug", package.path + "/.build/release"]
  return candidates.first { FileManager.default.isExecutableFile(atPath: $0 + "/trace-record") } ?? candidates[1]
}()

/// The built commands.
let traceRecord = builtProducts + "/trace-record"
let traceReplay = builtProducts + "/trace-replay"

/// Where PATH has `program`, or nil; tests that need one are skipped without it.
func installed(_ program: String) -> String? {
  let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin").split(separator: ":")
  return folders.map { "\($0)/\(program)" }.first { access($0, X_OK) == 0 }
}

/// Runs a command (a path, or a name on PATH) to its end, its output captured; killed after `timeoutSeconds` (status 137).
///
/// `environment` replaces or, with an empty value, removes variables of the test's own.
@discardableResult
func run(
  _ executable: String, _ arguments: [String] = [], in folder: String? = nil, environment: [String: String] = [:],
  input: String? = nil, timeoutSeconds: Double = 120
) throws -> CommandResult {
  let started = try StartedCommand(executable, arguments, in: folder, environment: environment, input: input)
  return started.wait(timeoutSeconds: timeoutSeconds)
}

/// A running command whose output goes to files, so that it never waits for its reader.
final class StartedCommand {
  let processID: pid_t
  private let outputs: TemporaryFolder

  init(
    _ executable: String, _ arguments: [String] = [], in folder: String? = nil, environment: [String: String] = [:],
    input: String? = nil
  ) throws {
    outputs = try TemporaryFolder()
    let path = executable.contains("/") ? executable : try #require(installed(executable), "\(executable) is not installed")
    var merged = ProcessInfo.processInfo.environment
    for (name, value) in environment { merged[name] = value.isEmpty ? nil : value }
    var inputPath = "/dev/null"
    if let input {
      inputPath = outputs / "stdin"
      try Data(input.utf8).write(to: URL(fileURLWithPath: inputPath))
    }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, inputPath, O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, outputs / "stdout", O_WRONLY | O_CREAT | O_APPEND, 0o600)
    posix_spawn_file_actions_addopen(&actions, 2, outputs / "stderr", O_WRONLY | O_CREAT | O_APPEND, 0o600)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // The test runner's own mask and ignored signals are no part of what is tested.
    var none = sigset_t()
    sigemptyset(&none)
    var all = sigset_t()
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
    // env(1) changes the folder and becomes the command; the spawn action that would do it is a GNU extension.
    let words = (folder.map { ["/usr/bin/env", "-C", $0] } ?? []) + [path] + arguments
    let argumentPointers = words.map { strdup($0) } + [nil]
    let environmentPointers = merged.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { (argumentPointers + environmentPointers).forEach { free($0) } }
    var child: pid_t = 0
    let code = posix_spawn(&child, words[0], &actions, &attributes, argumentPointers, environmentPointers)
    guard code == 0 else { throw CocoaError(.executableLoad, userInfo: [NSFilePathErrorKey: path, "errno": code]) }
    processID = child
  }

  /// Waits for the end; kills the command after `timeoutSeconds`.
  func wait(timeoutSeconds: Double = 120) -> CommandResult {
    var status: Int32 = 0
    let deadline = Date().addingTimeInterval(timeoutSeconds)
    var pause: useconds_t = 500
    while waitpid(processID, &status, WNOHANG) == 0 {
      if Date() > deadline { kill(processID, SIGKILL) }
      usleep(pause)
      pause = min(pause * 2, 20_000)
    }
    let signal = ctrace_signaled(status) != 0 ? ctrace_term_signal(status) : nil
    return CommandResult(
      status: signal.map { 128 + $0 } ?? ctrace_exit_status(status), signal: signal,
      stdout: text("stdout"), stderr: text("stderr"))
  }

  /// What the command has written to stderr so far.
  var stderrSoFar: String { text("stderr") }

  private func text(_ name: String) -> String {
    String(decoding: (try? Data(contentsOf: URL(fileURLWithPath: outputs / name))) ?? Data(), as: UTF8.self)
  }
}

/// A folder of its own that is removed with the last reference to it.
final class TemporaryFolder {
  let path: String

  /// Below `parent`, or the system's temporary folder.
  init(in parent: String? = nil) throws {
    let base = parent ?? ProcessInfo.processInfo.environment["TMPDIR"] ?? "/tmp"
    var template = Array("\(base)/iotrace-test-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw CocoaError(.fileWriteUnknown, userInfo: [NSFilePathErrorKey: base]) }
    path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// The path of `name` inside the folder.
  static func / (folder: TemporaryFolder, name: String) -> String { "\(folder.path)/\(name)" }

  /// Writes a text file and returns its path.
  @discardableResult
  func write(_ name: String, _ text: String) throws -> String {
    try Data(text.utf8).write(to: URL(fileURLWithPath: self / name))
    return self / name
  }
}

/// Compiles a C program inside `folder` and returns the executable's path.
func compileC(_ source: String, in folder: TemporaryFolder, name: String = "program", flags: [String] = []) throws -> String {
  let file = try folder.write("\(name).c", source)
  let compiler = try #require(installed("cc") ?? installed("gcc") ?? installed("clang"), "no C compiler")
  let result = try run(compiler, ["-O1", "-D_GNU_SOURCE", "-pthread", "-o", folder / name, file] + flags)
  try #require(result.status == 0, "\(result.stderr)")
  return folder / name
}
