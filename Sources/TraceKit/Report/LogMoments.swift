import Glibc

/// Mean and spread of the logarithms of positive figures.
public struct LogMoments: Hashable, Sendable {
  public let geometricMean: Double
  /// With n − 1 degrees of freedom; nil for a single figure.
  public let standardDeviation: Double?

  /// - Parameter values: at least one, all positive.
  public init(_ values: [Double]) {
    let logarithms = values.map { log($0) }
    let mean = logarithms.reduce(0, +) / Double(values.count)
    geometricMean = exp(mean)
    let squares = logarithms.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    standardDeviation = values.count < 2 ? nil : sqrt(squares / Double(values.count - 1))
  }
}
