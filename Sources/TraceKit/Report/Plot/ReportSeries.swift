import Glibc

/// What the pictures of a report are drawn from: rates over time and latencies by percentile and window.
struct ReportSeries {
  typealias Point = LineChart.Point
  let report: ReplayReport

  init(_ report: ReplayReport) { self.report = report }

  /// A schedule was followed, so lag and response mean something.
  var isTimed: Bool { report.fidelity.verdict != .notApplicable }

  /// The latency that counts: service at maximum speed, response when timed.
  var mainLatency: (name: String, summary: LatencySummary) {
    isTimed ? ("response", report.latency.response) : ("service", report.latency.service)
  }

  /// Recorded time per replayed time, when that is one number for the whole run.
  var speedFactor: Double? {
    guard isTimed, case .factor(let factor)? = ReplaySpeed(report.run.speed), factor > 0 else { return nil }
    return factor
  }

  // MARK: Over time

  /// A figure of each interval, per second; the last interval ends with the run.
  func perSecond(_ figure: (ReplayReport.Interval) -> Double) -> [Point] {
    let end = Double(report.run.elapsedNanoseconds)
    return Self.steps(
      report.intervals.map { (Double($0.startNanoseconds), figure($0)) }, width: Double(report.intervalNanoseconds), end: end)
  }

  /// A figure of each recorded interval, per second, over the time at which the replay reaches it.
  /// - Parameter factor: recorded time per replayed time.
  func recordedPerSecond(factor: Double, _ figure: (ReplayReport.RecordedInterval) -> Double) -> [Point] {
    let width = Double(report.recordedIntervalNanoseconds ?? 0)
    let rows = report.recordedIntervals ?? []
    guard width > 0, let last = rows.last else { return [] }
    // The recording ends somewhere in its last interval.
    let duration = Double(report.trace.durationNanoseconds)
    let end = duration > Double(last.startNanoseconds) ? duration : Double(last.startNanoseconds) + width
    return Self.steps(rows.map { (Double($0.startNanoseconds), figure($0)) }, width: width, end: end).map {
      Point(x: $0.x / factor, y: $0.y * factor)
    }
  }

  private static func steps(_ rows: [(start: Double, value: Double)], width: Double, end: Double) -> [Point] {
    var points: [Point] = []
    for (start, value) in rows {
      // Time runs forward, even in a report that somebody has edited.
      guard start >= 0, start > points.last?.x ?? -1 else { continue }
      // A sliver of an interval at the end would show noise as a rate.
      let length = min(width, end - start)
      guard length > 0, length >= width * 0.05 || rows.count == 1 else { continue }
      points.append(Point(x: start, y: value / length * 1e9))
    }
    if let last = points.last { points.append(Point(x: max(last.x, min(end, last.x + width)), y: last.y)) }
    return points
  }

  var requestsPerSecond: [Point] { perSecond { Double($0.requests) } }
  /// Bytes read and written per second; the first holds both in reports that don't tell them apart.
  var bytesPerSecond: (read: [Point], written: [Point], isSum: Bool) {
    guard report.intervals.contains(where: { $0.bytesRead != nil }) else { return (perSecond { Double($0.bytes) }, [], true) }
    return (perSecond { Double($0.bytesRead ?? 0) }, perSecond { Double($0.bytesWritten ?? 0) }, false)
  }
  /// Mean number of requests in flight; empty in reports that don't know.
  var inFlight: [Point] {
    guard report.intervals.contains(where: { $0.serviceNanoseconds != nil }) else { return [] }
    return perSecond { Double($0.serviceNanoseconds ?? 0) / 1e9 }
  }
  var largestLag: [Point] {
    var points: [Point] = []
    for interval in report.intervals where interval.startNanoseconds >= 0 && Double(interval.startNanoseconds) > points.last?.x ?? -1 {
      points.append(Point(x: Double(interval.startNanoseconds), y: Double(max(0, interval.maximumLagNanoseconds))))
    }
    if let last = points.last { points.append(Point(x: max(last.x, Double(report.run.elapsedNanoseconds)), y: last.y)) }
    return points
  }

  /// Mean of several points that lie near each other, so that at most `maximum` remain.
  static func thinned(_ points: [Point], to maximum: Int) -> [Point] {
    guard points.count > maximum else { return points }
    let size = (points.count + maximum - 1) / maximum
    return stride(from: 0, to: points.count, by: size).map { start in
      let group = points[start..<min(start + size, points.count)]
      return Point(x: group.first!.x, y: group.reduce(0) { $0 + $1.y } / Double(group.count))
    }
  }

  // MARK: Latencies

  /// Latency over the number of nines of the percentile, log10(1 ÷ (1 − q)): 0 is the minimum, 1 is p90, 2 is p99.
  static func percentiles(_ histogram: LatencyHistogram) -> [Point] {
    guard histogram.count > 0 else { return [] }
    let end = nines(histogram.count)
    let steps = 160
    var points: [Point] = []
    for i in 0...steps {
      let nines = end * Double(i) / Double(steps)
      guard let value = histogram.quantile(i == steps ? 1 : max(1e-12, 1 - pow(10, -nines))) else { continue }
      // A flat stretch needs its ends only.
      if points.count >= 2, points[points.count - 1].y == Double(value), points[points.count - 2].y == Double(value) { points.removeLast() }
      points.append(Point(x: nines, y: Double(max(1, value))))
    }
    return points
  }

  /// Nines up to which a number of values says anything: those of the slowest one.
  static func nines(_ count: UInt64) -> Double { max(1, log10(Double(max(1, count)))) }

  /// Counts of latencies by window and by height on a logarithmic axis.
  struct LatencyGrid {
    var columns: Int
    var rows: Int
    /// By column, then row from the shortest latency.
    var counts: [UInt64]
  }

  /// - Parameter axis: the logarithmic axis whose height the rows divide.
  static func grid(_ histograms: [LatencyHistogram], rows: Int, axis: PlotScale) -> LatencyGrid {
    var grid = LatencyGrid(
      columns: max(1, histograms.count), rows: rows, counts: Array(repeating: 0, count: max(1, histograms.count) * rows))
    let unit = PlotScale(.logarithmic, values: [axis.low, axis.high], from: 0, to: Double(rows))
    for (column, histogram) in histograms.enumerated() {
      for (bucket, count) in histogram.filledBuckets {
        let value = Double(max(1, LatencyHistogram.middle(bucket)))
        let row = min(rows - 1, Int(unit.position(value)))
        grid.counts[column * rows + row] &+= count
      }
    }
    return grid
  }
}
