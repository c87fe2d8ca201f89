/// In which order the runs of a comparison are made: in rounds of one run per candidate, so that slow changes of the machine meet
/// all of them; balanced, so that each candidate stands in each place of a round about equally often; and random otherwise.
public enum RunOrder {
  /// - Parameters:
  ///   - rounds: runs of each candidate.
  ///   - seed: equal seeds give equal orders.
  /// - Returns: for each round the candidates' numbers, each once.
  public static func rounds(_ rounds: Int, candidates: Int, seed: UInt64) -> [[Int]] {
    var random = SeededGenerator(seed: seed)
    var order: [[Int]] = []
    while order.count < rounds {
      // The rows of a cyclic Latin square: over them, each candidate stands in each place once.
      let names = Array(0..<candidates).shuffled(using: &random)
      let rows = (0..<candidates).map { row in (0..<candidates).map { names[(row + $0) % candidates] } }
      order += rows.shuffled(using: &random)
    }
    return Array(order.prefix(rounds))
  }
}
