extension TraceReader {
  /// Sentences on what the recording chose to leave out, for who goes on with the trace.
  public var recordingNotes: [String] {
    var notes: [String] = []
    if let sample = metadata.sample { notes.append("\(PrintableText.escaped(path)): a sample, recorded of \(sample.text)") }
    return notes
  }

  /// - Throws: when requests are known to be missing, or may be: gaps, damage, a trace that was not closed.
  public func requireLossless() throws(TraceError) {
    let shown = PrintableText.escaped(path)
    guard let totals else {
      throw TraceError(.refused, "\(shown): was not closed, so its losses are not known; --require-lossless refuses it")
    }
    guard totals.lossless else {
      let lost = totals.lostEvents.map { "\($0) requests" } ?? "an unknown number of requests"
      throw TraceError(.refused, "\(shown): not lossless, \(totals.gaps) gaps with \(lost); --require-lossless refuses it")
    }
    guard damages.isEmpty else { throw TraceError(.refused, "\(shown): damaged; --require-lossless refuses it") }
  }
}
