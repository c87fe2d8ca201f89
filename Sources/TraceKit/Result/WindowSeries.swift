/// Latencies of consecutive windows of requests. The windows follow from the number of requests alone, so two runs of the same
/// trace have the same ones.
public struct WindowSeries: Sendable {
  public static let maximumWindows = 30
  /// Requests of a window.
  public private(set) var windowRequests: UInt64
  /// Latencies by window.
  public private(set) var windows: [LatencySet] = []

  /// - Parameter windowRequests: at least 1.
  public init(windowRequests: UInt64) { self.windowRequests = max(1, windowRequests) }

  mutating func set(_ window: Int, _ latencies: LatencySet) {
    while windows.count <= window { windows.append(LatencySet()) }
    windows[window].merge(latencies)
  }

  /// Adds another worker's windows of the same trace: the finer series is made coarser first.
  mutating func merge(_ other: WindowSeries) {
    var other = other
    while windowRequests < other.windowRequests { coarsen() }
    while other.windowRequests < windowRequests { other.coarsen() }
    for (i, window) in other.windows.enumerated() { set(i, window) }
  }

  /// Joins pairs of windows.
  mutating func coarsen() {
    windows = stride(from: 0, to: windows.count, by: 2).map { i in
      var joined = windows[i]
      if i + 1 < windows.count { joined.merge(windows[i + 1]) }
      return joined
    }
    windowRequests *= 2
  }
}
