extension DiffAssembly {
  /// Conditions in which any of the runs differ.
  /// - Throws: the first that makes the comparison meaningless and was not allowed.
  func differences() throws(TraceError) -> [ReportDiff.Difference] {
    var names: [String] = []
    for run in a + b { for (name, _) in run.conditions where !names.contains(name) { names.append(name) } }
    var found: [ReportDiff.Difference] = []
    for name in names {
      let (valuesA, valuesB) = (values(name, a), values(name, b))
      let isKnown = !valuesA.isEmpty && !valuesB.isEmpty
      guard isKnown, Set(valuesA + valuesB).count > 1 || (name == "trace" && valuesA.contains("no digest")) else { continue }
      let difference = ReportDiff.Difference(
        name: name, a: valuesA.joined(separator: " / "), b: valuesB.joined(separator: " / "),
        isOverridden: ReportDiff.refusals.contains(name))
      if difference.isOverridden, !options.allow.contains(name) { throw refusal(difference) }
      found.append(difference)
    }
    return found
  }

  /// The different values of a condition on one side; empty when it is not known.
  private func values(_ name: String, _ runs: [DiffRun]) -> [String] {
    var found: [String] = []
    for run in runs {
      let value = run.conditions.first { $0.name == name }?.value ?? (run.conditionsAreComplete ? "not set" : nil)
      if let value, !found.contains(value) { found.append(value) }
    }
    return found
  }

  private func refusal(_ difference: ReportDiff.Difference) -> TraceError {
    TraceError(
      .refused,
      "not comparable: the runs differ in \(difference.name) (\(difference.a) against \(difference.b)); --allow-different \(difference.name) compares them all the same"
    )
  }

  /// Reasons why no verdict counts; none when unfaithful runs were allowed.
  func vetoes() -> [String] { options.allow.contains("fidelity") ? [] : infidelities() }

  private func infidelities() -> [String] {
    var found: [String] = []
    for (side, runs) in [("A", a), ("B", b)] {
      for (i, run) in runs.enumerated() {
        let name = runs.count > 1 ? "\(side)\(i + 1) (\(run.name))" : side
        found += run.vetoes.map { "\(name) \($0)" }
      }
    }
    return found
  }

  func notes() -> [String] {
    var notes: [String] = []
    if options.allow.contains("fidelity") { notes += infidelities().map { "\($0); compared all the same" } }
    for run in a + b { for note in run.notes where !notes.contains(note) { notes.append(note) } }
    if a.count > 1, a.count < 5 { notes.append("\(a.count) pairs of runs; with fewer than 5 the intervals are wide") }
    if method == .windowsOfOnePair, a[0].windows.map(\.firstRequest) != b[0].windows.map(\.firstRequest) {
      notes.append("the two runs are not divided into the same windows of requests, so there are no intervals")
    }
    return notes
  }
}
