import TraceKit

/// The line that shows a running replay on a terminal.
final class ProgressMeter {
  private let enabled: Bool
  private var shown = false

  init(enabled: Bool) { self.enabled = enabled }

  func show(_ progress: Replayer.Progress) {
    guard enabled, progress.elapsedNanoseconds > 0 else { return }
    switch progress.phase {
    case .running: break
    case .filling(let done, let all): return write("filling scratch files: \(ByteCount.text(done)) of \(ByteCount.text(all))")
    case .verifying(let done): return write("verifying what was written: \(ByteCount.text(done))")
    }
    let seconds = Double(progress.elapsedNanoseconds) / 1e9
    var line = "\(progress.requests)"
    if let expected = progress.expectedRequests { line += " of \(expected)" }
    line += " requests, \(Decimal.text(Double(progress.requests) / seconds, digits: 0))/s, \(Decimal.text(seconds, digits: 1)) s"
    if let lag = progress.lagNanoseconds { line += ", lag \(DurationText.text(lag))" }
    if progress.errors > 0 { line += ", \(progress.errors) errors" }
    if let expected = progress.expectedRequests, progress.requests > 0, expected >= progress.requests {
      let left = seconds / Double(progress.requests) * Double(expected - progress.requests)
      line += ", about \(Decimal.text(left, digits: 0)) s left"
    }
    write(line)
  }

  private func write(_ line: String) {
    StandardError.write("\r\u{1b}[K\(line)")
    shown = true
  }

  /// Removes the line.
  func clear() {
    if shown { StandardError.write("\r\u{1b}[K") }
  }
}
