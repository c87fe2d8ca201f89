extension ReportDiff {
  /// Conditions that make a comparison meaningless, and `fidelity`, which vetoes its verdicts, by the name that overrides each.
  public static let refusals = ["trace", "filter", "speed", "order", "loops", "fidelity"]

  /// Compares two reports.
  /// - Parameters:
  ///   - allow: names out of `refusals` in which the runs may differ.
  ///   - marginPercent: a change within it counts as equivalent.
  /// - Throws: `.refused` when the reports are not comparable.
  public init(_ a: ReplayReport, _ b: ReplayReport, allow: Set<String> = [], marginPercent: Double = 2) throws(TraceError) {
    var options = DiffOptions()
    options.allow = allow
    options.marginPercent = marginPercent
    try self.init([DiffRun(a, name: "A")], [DiffRun(b, name: "B")], nameA: "A", nameB: "B", options: options)
  }

  /// Compares runs, the first of A with the first of B and so on.
  /// - Throws: `.refused` when the runs are not comparable.
  public init(_ runsA: [DiffRun], _ runsB: [DiffRun], nameA: String, nameB: String, options: DiffOptions) throws(TraceError) {
    guard runsA.count == runsB.count, !runsA.isEmpty else {
      throw TraceError(.refused, "not comparable: \(runsA.count) runs of A and \(runsB.count) of B don't make pairs")
    }
    let differences = try DiffAssembly(a: runsA, b: runsB, options: options).differences()
    let (a, b) = DiffRun.trimmed(runsA, runsB, options.warmup)
    let assembly = DiffAssembly(a: a, b: b, options: options)
    let vetoes = assembly.vetoes()
    let (totals, latencies) = (assembly.totals(), assembly.latencies())
    self.init(
      schema: .init(name: Self.schemaName, version: Self.schemaVersion), a: Self.side(nameA, runsA), b: Self.side(nameB, runsB),
      digest: runsA[0].digest, method: assembly.method, pairs: runsA.count, marginPercent: options.marginPercent,
      primary: assembly.primary, verdict: assembly.verdict(latencies.first { $0.kind == assembly.primary }), vetoes: vetoes,
      differences: differences, totals: totals, latencies: latencies,
      gates: assembly.gates(latencies, totals, isVetoed: !vetoes.isEmpty), operations: assembly.operations(), paired: nil,
      drifts: assembly.drifts(), notes: assembly.notes())
  }

  private static func side(_ name: String, _ runs: [DiffRun]) -> Side {
    let engines = Set(runs.compactMap(\.engine))
    return Side(
      name: PrintableText.escaped(name), runs: runs.map(\.name), source: runs[0].source,
      engine: engines.count == 1 ? engines.first.map { PrintableText.escaped($0) } : nil,
      createdUnixNanoseconds: runs.compactMap(\.createdUnixNanoseconds).min())
  }
}
