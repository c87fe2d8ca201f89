extension RecordingLedger {
  /// For people, a line for each subject.
  public var lines: [String] {
    var lines = routes.map { line($0) }
    lines.append(lossLine)
    lines += coverageLines
    if let sampling { lines.append(sampling.line) }
    if excludedEvents > 0 { lines.append("left out by the filters: \(excludedEvents)") }
    if let line = recorderLine { lines.append(line) }
    if let line = blindSpotLine { lines.append(line) }
    return lines
  }

  private func line(_ route: Route) -> String {
    let kinds = route.operations.map { "\(PrintableText.escaped($0.operation)) \($0.events)" }
    let cost = route.costPerEventNanoseconds.map { ", \(Decimal.text($0, digits: 0)) ns per event as measured at the start" } ?? ""
    let detail = kinds.isEmpty ? "" : " (\(kinds.joined(separator: ", ")))"
    return "\(PrintableText.escaped(route.name)): \(route.events) events\(detail)\(cost)"
  }

  /// `dropped: 0`, or what was lost by which cause.
  public var lossLine: String {
    guard !losses.isEmpty else { return "dropped: 0" }
    let parts = losses.map { loss in
      let events = loss.events.map { "\($0)" } ?? "an unknown number"
      return "\(events) in \(loss.gaps) \(loss.gaps == 1 ? "gap" : "gaps") (\(Self.explanation(of: loss.cause)))"
    }
    return "dropped: \(parts.joined(separator: ", "))"
  }

  /// Words for a gap's cause by its name.
  static func explanation(of cause: String) -> String {
    GapCause.allCases.first { $0.name == cause }?.explanation ?? PrintableText.escaped(cause)
  }

  /// One line for each place where the kernel counts.
  public var coverageLines: [String] {
    var sources: [String] = []
    for entry in coverage where entry.kernel != nil && !sources.contains(entry.source) { sources.append(entry.source) }
    return sources.map { source in
      let entries = coverage.filter { $0.source == source && $0.kernel != nil }
      return "coverage by \(PrintableText.escaped(source)): \(entries.map(\.text).joined(separator: ", "))" + Self.differences(entries)
    }
  }

  private static func differences(_ entries: [Coverage]) -> String {
    var parts: [String] = []
    for entry in entries where entry.missing > 0 || entry.surplus > 0 {
      let amount = entry.missing > 0 ? entry.missing : entry.surplus
      let what = "\(entry.amountText(amount)) \(PrintableText.escaped(entry.counter))"
      parts.append(entry.missing > 0 ? "not seen: \(what)" : "not counted by the kernel: \(what)")
    }
    guard !parts.isEmpty else { return "" }
    var causes: [String] = []
    for entry in entries where entry.missing > 0 || entry.surplus > 0 {
      if let cause = entry.explanation, !causes.contains(cause) { causes.append(cause) }
    }
    let why = causes.isEmpty ? "" : " (\(causes.map { PrintableText.escaped($0) }.joined(separator: "; ")))"
    return "; " + parts.joined(separator: ", ") + why
  }

  private var recorderLine: String? {
    guard let share = shareOfOneCPU, let durationNanoseconds, let recorderCPUNanoseconds else { return nil }
    return
      "recorder: \(Decimal.text(share * 100, digits: 1)) % of one CPU (\(DurationText.text(Int64(clamping: recorderCPUNanoseconds))) of "
      + "\(DurationText.text(durationNanoseconds)))"
  }

  private var blindSpotLine: String? {
    guard !blindSpots.isEmpty else { return nil }
    let spots = blindSpots.map { spot in
      let remedy = spot.remedy.map { " (\(PrintableText.escaped($0)))" } ?? ""
      return "\(spot.count) \(PrintableText.escaped(spot.name))\(remedy)"
    }
    return "blind spots met: \(spots.joined(separator: ", "))"
  }
}

extension RecordingLedger.Coverage {
  /// `99.8 % of 1.2 GiB read`.
  fileprivate var text: String {
    guard let share, let kernel else { return "" }
    // Rounded down, so that 100 % says that nothing is missing.
    let percent = Decimal.text((share * 1000).rounded(.down) / 10, digits: 1)
    return "\(percent) % of \(amountText(kernel)) \(PrintableText.escaped(counter))"
  }

  fileprivate func amountText(_ amount: UInt64) -> String { unit == "bytes" ? ByteCount.text(amount) : "\(amount)" }
}

extension RecordingLedger.Sampling {
  /// `sample: 1 of 8 files (12 of 97 that were met), 4711 events left out`.
  public var line: String {
    "sample: 1 of \(oneIn) \(PrintableText.escaped(unit)) (\(recorded) of \(met) that were met), \(eventsLeftOut) events left out"
  }
}
