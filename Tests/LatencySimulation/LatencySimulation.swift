import Glibc
import TraceKit

/// Runs of a trace as they might be: log-latency = 11 + a cost of the request that all runs share (normal, sd 0.6, plus AR(1) with
/// φ = 0.9, sd 0.3) + the run's own slow fluctuation (AR(1) with φ = 0.995, sd 0.2) + noise (sd 0.3). Standard deviations of
/// AR(1) are those of the stationary process.
public struct LatencySimulation {
  public static let windows = 30
  /// Requests of a run.
  public let requests: Int
  private var random: NormalGenerator
  private var costs: [Double]
  private var counts: [UInt64]

  public init(seed: UInt64, requests: Int = 10_000) {
    self.requests = requests
    random = NormalGenerator(seed: seed)
    costs = Array(repeating: 0, count: requests)
    counts = Array(repeating: 0, count: LatencyHistogram.bucketCount)
  }

  /// One run.
  public struct Run {
    public var whole: LatencyHistogram
    /// Latencies of consecutive windows; empty unless asked for.
    public var windows: [LatencyHistogram]
    /// Log-latency of each request; empty unless asked for.
    public var logarithms: [Double]
  }

  /// Runs of one trace: pairs of A and B, which is slower by `slowdown` (0.05 for 5 %).
  public mutating func pairs(_ count: Int, slowdown: Double = 0, detailed: Int = 0) -> [(a: Run, b: Run)] {
    drawCosts()
    return (0..<count).map { i in
      let a = run(shift: 0, detailed: i < detailed)
      return (a, run(shift: log1p(slowdown), detailed: i < detailed))
    }
  }

  /// Mean of ln(B ÷ A) over the requests of each of `blocks` equal parts of a detailed pair.
  public static func meanLogRatios(_ a: Run, _ b: Run, blocks: Int) -> [Double] {
    let size = a.logarithms.count / blocks
    return (0..<blocks).map { block in
      var sum = 0.0
      for i in block * size..<(block + 1) * size { sum += b.logarithms[i] - a.logarithms[i] }
      return sum / Double(size)
    }
  }

  private mutating func drawCosts() {
    let innovation = 0.3 * sqrt(1 - 0.9 * 0.9)
    var slow = 0.3 * random.next()
    for i in 0..<requests {
      costs[i] = 11 + 0.6 * random.next() + slow
      slow = 0.9 * slow + innovation * random.next()
    }
  }

  private mutating func run(shift: Double, detailed: Bool) -> Run {
    let innovation = 0.2 * sqrt(1 - 0.995 * 0.995)
    var slow = 0.2 * random.next()
    var run = Run(whole: LatencyHistogram(), windows: [], logarithms: [])
    if detailed { run.logarithms.reserveCapacity(requests) }
    let size = detailed ? (requests + Self.windows - 1) / Self.windows : requests
    var (sum, low, high) = (UInt64(0), Int64.max, Int64.min)
    for i in 0..<requests {
      let logarithm = costs[i] + shift + slow + 0.3 * random.next()
      slow = 0.995 * slow + innovation * random.next()
      if detailed { run.logarithms.append(logarithm) }
      let latency = Int64(exp(logarithm))
      counts[LatencyHistogram.bucket(latency)] += 1
      sum += UInt64(latency)
      low = min(low, latency)
      high = max(high, latency)
      if (i + 1) % size == 0 || i + 1 == requests {
        let window = takeHistogram(sum, low, high)
        if detailed { run.windows.append(window) }
        run.whole.merge(window)
        (sum, low, high) = (0, Int64.max, Int64.min)
      }
    }
    return run
  }

  /// The histogram of what was counted, which is forgotten.
  private mutating func takeHistogram(_ sum: UInt64, _ low: Int64, _ high: Int64) -> LatencyHistogram {
    var buckets: [(bucket: Int, count: UInt64)] = []
    for bucket in LatencyHistogram.bucket(low)...LatencyHistogram.bucket(high) where counts[bucket] > 0 {
      buckets.append((bucket, counts[bucket]))
      counts[bucket] = 0
    }
    return LatencyHistogram(buckets: buckets, sumNanoseconds: sum, minimum: low, maximum: high)!
  }
}
