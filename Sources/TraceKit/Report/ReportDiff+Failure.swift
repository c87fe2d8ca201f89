extension ReportDiff {
  /// Why a comparison ends with a status other than 0; a comparison that could not be made never reads as "no regression".
  public struct Failure: Hashable, Sendable {
    /// 3 regression, 4 not comparable, 5 inconclusive.
    public var status: Int32
    public var message: String
  }

  /// - Parameter failInconclusive: what can't be decided fails too.
  public func failure(failInconclusive: Bool) -> Failure? {
    func expressions(_ results: Set<Gate.Result>) -> String {
      gates.filter { results.contains($0.result) }.map(\.expression).joined(separator: ", ")
    }
    let failed = expressions([.fails])
    if !failed.isEmpty { return Failure(status: 3, message: "regression: \(failed)") }
    if !vetoes.isEmpty, !gates.isEmpty || failInconclusive {
      return Failure(status: 4, message: "not comparable: \(vetoes[0]); --allow-different fidelity compares all the same")
    }
    guard failInconclusive else { return nil }
    let open = expressions([.inconclusive, .insufficient])
    if !open.isEmpty { return Failure(status: 5, message: "inconclusive: \(open)") }
    if gates.isEmpty, verdict == .inconclusive || verdict == .insufficient {
      return Failure(status: 5, message: "inconclusive: the verdict is \(verdict.rawValue)")
    }
    return nil
  }
}
