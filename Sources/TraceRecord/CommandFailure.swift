import ArgumentParser
import Glibc
import TraceKit

/// How a command that failed ends.
enum CommandFailure {
  /// Says what went wrong and gives the exit status: 0 for help and versions, 1 for errors, 2 for wrong usage.
  static func status(of error: any Error, _ root: any ParsableCommand.Type) -> Int32 {
    if let code = error as? ExitCode { return code.rawValue }
    if let error = error as? TraceError {
      // The reader of a pipe that has seen enough is no failure to speak of.
      if case .system(EPIPE) = error.kind { return 128 + SIGPIPE }
      say(error.message)
      return 1
    }
    let message = root.fullMessage(for: error)
    switch root.exitCode(for: error) {
    case .success:
      try? OutputFile.write(message + "\n", to: "-")
      return 0
    case .validationFailure:
      say(message, prefix: "")
      return 2
    default:
      say(message)
      return 1
    }
  }

  /// One line on stderr.
  static func say(_ text: String, prefix: String = "trace-record: ") {
    let line = Array("\(prefix)\(text)\n".utf8)
    _ = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress!, $0.count) }
  }
}
