/// Ways to divide the runs of one candidate into pairs of an A and a B, as if they were two candidates.
enum RunPairings {
  /// Most ways that are looked at; of more, a random choice.
  static let maximum = 20_000

  /// - Parameter runs: even, at least 4.
  /// - Returns: pairs of run numbers, each run once per way; and whether these are all ways.
  static func all(_ runs: Int) -> (ways: [[(a: Int, b: Int)]], isComplete: Bool) {
    let count = runs / 2
    // (runs − 1)!! matchings, and in each pair either run may be A; turning all pairs round changes nothing.
    var ways = 1
    for odd in stride(from: runs - 1, to: 1, by: -2) { ways = ways &* odd }
    if runs <= 14, ways << (count - 1) <= maximum { return (enumerated(runs), true) }
    var random = SeededGenerator(seed: UInt64(runs))
    return ((0..<maximum).map { _ in drawn(runs, &random) }, false)
  }

  private static func enumerated(_ runs: Int) -> [[(a: Int, b: Int)]] {
    var found: [[(a: Int, b: Int)]] = []
    func match(_ rest: [Int], _ pairs: [(a: Int, b: Int)]) {
      guard let first = rest.first else {
        found.append(pairs)
        return
      }
      for i in 1..<rest.count {
        var left = rest
        let other = left.remove(at: i)
        left.removeFirst()
        match(left, pairs + [(first, other)])
        if !pairs.isEmpty { match(left, pairs + [(other, first)]) }
      }
    }
    match(Array(0..<runs), [])
    return found
  }

  private static func drawn(_ runs: Int, _ random: inout SeededGenerator) -> [(a: Int, b: Int)] {
    let order = Array(0..<runs).shuffled(using: &random)
    return stride(from: 0, to: runs - 1, by: 2).map { (order[$0], order[$0 + 1]) }
  }
}
