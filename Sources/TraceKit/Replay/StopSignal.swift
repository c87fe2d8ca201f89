import CTrace
import Glibc

/// SIGINT and SIGTERM while a replay runs: the first stops issuing and leaves a valid partial report, the second exits.
public enum StopSignal {
  /// The first signal that came, or 0.
  public static var received: Int32 { ctrace_stop_signal() }

  /// Installs the handlers; once.
  public static func install() { ctrace_install_stop_handlers() }
}
