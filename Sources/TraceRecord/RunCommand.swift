import ArgumentParser
import CTrace
import Glibc
import TraceKit

/// `trace-record run`: records a command that it starts.
struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Run a program and record its file I/O.",
    discussion: """
      The program's output, signals and exit status stay as they are. trace-record itself exits with 125 when it fails (a full disk \
      too, unless the program failed by itself), 126 when the program can't be executed or recorded, 127 when it is not found.

      Globs match absolute paths; '*' matches '/' too.
      """)

  @Option(name: .shortAndLong, help: ArgumentHelp("The trace to write.", valueName: "file"))
  var output: String
  @Flag(help: "Replace an existing trace.")
  var force = false
  @Option(help: ArgumentHelp("Record only files that match; may be repeated.", valueName: "glob"))
  var include: [String] = []
  @Option(help: ArgumentHelp("Leave out files that match; may be repeated.", valueName: "glob"))
  var exclude: [String] = []
  @Flag(help: "Hide file names behind a keyed hash; extensions and the tree's shape stay.")
  var anonymize = false
  @Option(help: ArgumentHelp("Hide names with the key in this file, so that recordings can be compared.", valueName: "file"))
  var anonymizeKey: String?
  @Option(
    help: ArgumentHelp(
      "How to record: preload (a library), bpf or syscalls (the kernel, as root), or auto, by what the program and the privileges allow.",
      valueName: "route"))
  var route: RecordingRoute = .auto
  @Option(help: ArgumentHelp("What a thread does when the recorder falls behind: drop (and count) or block.", valueName: "mode"))
  var onFull: PreloadSession.FullRing = .drop
  @Option(help: ArgumentHelp("Memory of each thread's ring, as 2M or 512K.", valueName: "size"))
  var ringSize: String = "2M"
  @Option(help: ArgumentHelp("Where shared memory is kept (default: /dev/shm).", valueName: "dir"))
  var runDir: String?
  @Flag(help: "Wait for every process that the program starts, not for the program only.")
  var waitAll = false
  @Flag(name: .shortAndLong, help: "No summary at the end.")
  var quiet = false
  @Option(help: ArgumentHelp("Compression, 1 (fast) to 9 (small).", valueName: "n"))
  var level: Int = Int(TraceWriter.defaultCompressionLevel)
  @OptionGroup(title: "Long recordings")
  var long: RecordingArguments
  @Flag(help: .hidden)
  var noCalibration = false
  @Argument(parsing: .captureForPassthrough, help: ArgumentHelp("The program and its arguments, untouched.", valueName: "program"))
  var command: [String] = []

  func run() throws {
    let outcome: ProgramRecorder.Outcome
    do throws(ProgramRecorder.Failure) {
      outcome = try ProgramRecorder.record(try options())
    } catch {
      switch error {
      case .program(let refusal): fail(refusal.message, status: refusal.exitStatus)
      case .recorder(let error): fail(error.message, status: 125)
      }
    }
    if !quiet { for line in outcome.summary.lines { report(line) } }
    let failed = outcome.summary.failure
    if let failed { report(failed.message) }
    leave(outcome.waitStatus, recorderFailed: failed != nil)
  }

  private func options() throws(ProgramRecorder.Failure) -> RecordingOptions {
    do throws(TraceError) { return try checkedOptions() } catch { throw .recorder(error) }
  }

  private func checkedOptions() throws(TraceError) -> RecordingOptions {
    let words = command.first == "--" ? Array(command.dropFirst()) : command
    if let option = command.first, option.hasPrefix("-"), option != "--" {
      throw TraceError(.usage, "\(PrintableText.escaped(option)): no such option; a program of that name stands after '--'")
    }
    guard let program = words.first, !program.isEmpty else {
      throw TraceError(.refused, "which program? trace-record run -o FILE -- PROGRAM ARGUMENTS")
    }
    guard (1...9).contains(level) else { throw TraceError(.refused, "--level \(level): 1 to 9") }
    guard let ringBytes = Self.bytes(ringSize), ringBytes >= 65_536, ringBytes <= 256 << 20 else {
      throw TraceError(.refused, "--ring-size \(ringSize): 64K to 256M")
    }
    let executable = Self.ownExecutable
    var options = RecordingOptions(command: words, output: output, library: try PreloadLibrary.path(executable: executable))
    options.overwrite = force
    options.filter = PathFilter(include: include, exclude: exclude)
    if let anonymizeKey {
      options.anonymizer = try PathAnonymizer(keyFile: anonymizeKey)
    } else if anonymize {
      options.anonymizer = PathAnonymizer()
    }
    options.route = route
    options.guardian = [executable, GuardTracingCommand.name]
    options.onFull = onFull
    options.ringBytes = ringBytes
    options.runFolder = runDir
    options.waitForAll = waitAll
    options.compressionLevel = Int32(level)
    options.calibration = noCalibration ? nil : [executable, CalibrateCommand.name]
    options.long = try long.options()
    options.described = described(ringBytes)
    return options
  }

  private func described(_ ringBytes: Int) -> [String: String] {
    var options = ["route": route.rawValue, "on_full": onFull.rawValue, "ring_bytes": "\(ringBytes)"]
    if !include.isEmpty { options["include"] = include.joined(separator: " ") }
    if !exclude.isEmpty { options["exclude"] = exclude.joined(separator: " ") }
    return options
  }

  private static var ownExecutable: String {
    guard let path = realpath("/proc/self/exe", nil) else { return CommandLine.arguments[0] }
    defer { free(path) }
    return String(cString: path)
  }

  /// `4096`, `512K`, `2M`, `1G`; nil for anything else.
  private static func bytes(_ text: String) -> Int? {
    let shifts: [Character: Int] = ["K": 10, "M": 20, "G": 30]
    guard let last = text.uppercased().last else { return nil }
    let shift = shifts[last] ?? 0
    guard let number = Int(shift > 0 ? String(text.dropLast()) : text), number > 0, number < 1 << 32 else { return nil }
    return number << shift
  }

  /// Ends as the program ended: with its status, or by its signal.
  private func leave(_ status: Int32, recorderFailed: Bool) -> Never {
    if ctrace_signaled(status) != 0 {
      // The program has left its core file; a second one would be the recorder's.
      var none = rlimit(rlim_cur: 0, rlim_max: 0)
      ctrace_limit_core(&none)
      let signal = ctrace_term_signal(status)
      Glibc.signal(signal, SIG_DFL)
      var set = sigset_t()
      sigemptyset(&set)
      sigaddset(&set, signal)
      sigprocmask(SIG_UNBLOCK, &set, nil)
      kill(getpid(), signal)
      _exit(128 + signal)
    }
    let own = ctrace_exit_status(status)
    _exit(own == 0 && recorderFailed ? 125 : own)
  }

  private func fail(_ message: String, status: Int32) -> Never {
    report(message)
    _exit(status)
  }

  private func report(_ line: String) {
    let text = Array("trace-record: \(line)\n".utf8)
    _ = text.withUnsafeBytes { write(2, $0.baseAddress!, $0.count) }
  }
}

extension PreloadSession.FullRing: ExpressibleByArgument {}
extension RecordingRoute: ExpressibleByArgument {}

/// Measures a loop of reads for the summary's cost per event; `run` starts it with and without the library.
struct CalibrateCommand: ParsableCommand {
  static let name = "calibrate-recording"
  static let configuration = CommandConfiguration(commandName: name, shouldDisplay: false)

  func run() throws {
    guard let cost = RecordingCost.timedLoop() else { throw ExitCode.failure }
    print(cost)
  }
}
