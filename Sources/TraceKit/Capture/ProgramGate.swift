import CTrace
import Glibc

/// Holds a program back before its first instruction, until a recorder has attached to it.
final class ProgramGate: @unchecked Sendable {
  private let gate: OpaquePointer
  private(set) var processID: pid_t = -1

  /// - Throws: without memory.
  init() throws(TraceError) {
    guard let made = ctrace_make_gate() else { throw TraceError(path: "a gate for the program", "make it", errno: errno) }
    gate = made
  }

  deinit { ctrace_remove_gate(gate) }

  /// Makes the process that will become the program at `path`, with this process's environment and the given signal mask.
  func start(path: String, arguments: [String], mask: sigset_t) throws(TraceError) {
    let argumentPointers = arguments.map { strdup($0) } + [nil]
    defer { argumentPointers.forEach { free($0) } }
    var mask = mask
    processID = ctrace_start_at_gate(gate, path, argumentPointers, environ, &mask)
    guard processID > 0 else { throw TraceError(path: path, "start it", errno: errno) }
  }

  /// Lets the program begin.
  func open() { ctrace_open_gate(gate) }

  /// Ends the process that waits.
  func giveUp() { ctrace_give_up_gate(gate) }

  /// errno of the execution of the program, nil unless it failed.
  var failure: Int32? {
    let code = ctrace_gate_failure(gate)
    return code == 0 ? nil : code
  }
}
