extension DiffRun {
  /// The runs without their first requests: the same windows are left out of all, so that the same requests remain. Totals and
  /// operations are of the whole runs, because reports keep only latencies by window.
  static func trimmed(_ a: [DiffRun], _ b: [DiffRun], _ warmup: DiffWarmup?) -> (a: [DiffRun], b: [DiffRun]) {
    let first = firstRequest(a + b, warmup)
    return (a.map { $0.without(first) }, b.map { $0.without(first) })
  }

  /// The first request that counts in every run. Only runs that have reports know when a duration ends.
  static func firstRequest(_ runs: [DiffRun], _ warmup: DiffWarmup?) -> UInt64 {
    switch warmup {
    case nil: 0
    case .requests(let count): count
    case .nanoseconds(let duration): runs.map { $0.requests(within: duration) }.max() ?? 0
    }
  }

  private func requests(within duration: Int64) -> UInt64 {
    progress.first { $0.endNanoseconds >= duration }?.requests ?? (progress.isEmpty ? 0 : latencies.service.count)
  }

  private func without(_ first: UInt64) -> DiffRun {
    guard first > 0 else { return self }
    var run = self
    run.windows = windows.filter { $0.firstRequest >= first }
    run.latencies = LatencySet()
    for window in run.windows { run.latencies.merge(window.latencies) }
    let left = windows.count - run.windows.count
    run.notes.append(
      "--warmup leaves out the first \(left) of \(windows.count) windows of every run (latencies only: totals and operations are of whole runs)"
    )
    return run
  }
}
