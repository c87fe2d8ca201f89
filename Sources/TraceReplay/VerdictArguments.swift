import ArgumentParser
import TraceKit

/// How a comparison is judged: the options that `diff` and `compare` share.
struct VerdictArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Exit with 3 when a change lies beyond a limit, such as 'p99>5%'; repeatable: \(DiffGate.syntax).", valueName: "limit"))
  var failOn: [String] = []
  @Flag(help: "Exit with 5 when a limit can't be decided; without limits, when the verdict can't.") var failInconclusive = false
  @Option(help: "Compare although this differs: \(ReportDiff.refusals.joined(separator: ", ")); repeatable.") var allowDifferent: [String] =
    []
  @Option(help: "A change within this many percent counts as equivalent.") var margin = 2.0
  @Option(help: ArgumentHelp("Leave out the beginning of every run: a number of requests, or a duration (10s).", valueName: "n|duration"))
  var warmup: String?

  func validate() throws {
    for name in allowDifferent where !ReportDiff.refusals.contains(name) {
      throw ValidationError("--allow-different \(PrintableText.escaped(name)): one of \(ReportDiff.refusals.joined(separator: ", "))")
    }
    if !(margin >= 0 && margin <= 100) { throw ValidationError("--margin: 0 to 100 percent") }
    if let warmup, DiffWarmup(warmup) == nil {
      throw ValidationError("--warmup \(PrintableText.escaped(warmup)): a number of requests, or a duration with its unit (10s, 500ms)")
    }
    for limit in failOn {
      do { _ = try DiffGate(limit) } catch { throw ValidationError(error.message) }
    }
  }

  func options() throws(TraceError) -> DiffOptions {
    var options = DiffOptions()
    options.allow = Set(allowDifferent)
    options.marginPercent = margin
    options.warmup = warmup.flatMap { DiffWarmup($0) }
    for limit in failOn { options.gates.append(try DiffGate(limit)) }
    return options
  }

  /// Exits with the worst status of the comparisons when one has to fail: a regression before what could not be decided.
  func judge(_ diffs: [ReportDiff]) throws {
    let failures = diffs.compactMap { $0.failure(failInconclusive: failInconclusive) }
    guard let worst = failures.min(by: { $0.status < $1.status }) else { return }
    throw TraceReplay.Failure(status: worst.status, message: worst.message)
  }
}
