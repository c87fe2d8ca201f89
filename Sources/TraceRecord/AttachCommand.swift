import ArgumentParser
import CTrace
import TraceKit

/// `trace-record attach`.
struct AttachCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attach", abstract: "Record the I/O system calls of running processes.",
    discussion: """
      The processes are neither stopped nor changed: the kernel reports their calls, those of their threads, and those of children \
      that they have or start. It needs root. Programs in the kernel (BPF) report them where that is possible, since it costs a call \
      half of what the kernel's own events (tracefs) do; --route says which. Recording ends after --duration, at SIGINT or SIGTERM, \
      or when none of the processes is left.

      Exit status: 0 success; 1 an error, said in one sentence on stderr; 2 wrong usage.
      """)

  @OptionGroup var tracing: TracingArguments
  @Option(help: ArgumentHelp("Record this process and its children; may be repeated.", valueName: "pid"))
  var pid: [Int32] = []
  @Option(help: ArgumentHelp("Record the processes of a cgroup, also those that enter it later.", valueName: "path"))
  var cgroup: String?
  @Option(help: ArgumentHelp("Record the processes of this name (see 'ps -eo comm'), also those that appear later.", valueName: "name"))
  var comm: String?
  @Flag(help: "Record every process but the recorder.")
  var all = false
  @Option(
    help: ArgumentHelp("auto, bpf (programs in the kernel) or syscalls (tracefs); auto takes bpf where it can.", valueName: "route"))
  var route: CallRoute = .auto
  @Option(help: ArgumentHelp("Record only files that match; may be repeated.", valueName: "glob"))
  var include: [String] = []
  @Option(help: ArgumentHelp("Leave out files that match; may be repeated.", valueName: "glob"))
  var exclude: [String] = []

  func validate() throws {
    let given = (pid.isEmpty ? 0 : 1) + (cgroup == nil ? 0 : 1) + (comm == nil ? 0 : 1) + (all ? 1 : 0)
    guard given == 1 else { throw ValidationError("which processes? one of --pid PID, --cgroup PATH, --comm NAME and --all") }
  }

  func run() throws {
    var options = try tracing.options()
    options.filter = PathFilter(include: include, exclude: exclude)
    if !include.isEmpty { options.described["include"] = include.joined(separator: " ") }
    if !exclude.isEmpty { options.described["exclude"] = exclude.joined(separator: " ") }
    options.callRoute = route
    options.described["route"] = route.rawValue
    ctrace_install_stop_handlers()
    let outcome = try SyscallRecorder.record(target, options)
    var summary = outcome.summary
    summary.notes.insert("route: \(outcome.route.rawValue) (\(outcome.reason))", at: 0)
    try tracing.report(summary)
  }

  private var target: AttachTarget {
    if let cgroup { return .cgroup(cgroup) }
    if let comm { return .name(comm) }
    return all ? .all : .processes(pid)
  }
}

extension CallRoute: ExpressibleByArgument {}
