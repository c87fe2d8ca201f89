import Glibc

/// Where a value lies on an axis, and which values the axis names.
struct PlotScale {
  enum Kind {
    case linear
    case logarithmic
  }
  /// A named place on the axis.
  struct Tick {
    var value: Double
    var label: String
  }

  let kind: Kind
  /// Smallest and largest value.
  private(set) var low: Double
  private(set) var high: Double
  /// Where they lie, in the picture's units.
  let start: Double
  let end: Double

  /// - Parameters:
  ///   - values: what must lie on the axis; values that are not finite, or not positive on a logarithmic one, are ignored.
  ///   - isFromZero: a linear axis begins at 0.
  init(_ kind: Kind, values: some Sequence<Double>, from start: Double, to end: Double, isFromZero: Bool = true) {
    self.kind = kind
    self.start = start
    self.end = end
    let fit = values.filter { $0.isFinite && (kind == .linear || $0 > 0) }
    var (low, high) = (fit.min() ?? (kind == .linear ? 0 : 1), fit.max() ?? 1)
    switch kind {
    case .linear:
      if isFromZero { low = min(0, low) }
      (low, high) = (max(low, -1e290), min(high, 1e290))
      if high <= low { high = low + max(1, abs(low)) }
    case .logarithmic:
      // Room for what is rounded outward.
      (low, high) = (max(low, 1e-290), min(high, 1e290))
      if high <= low * 1.01 { (low, high) = (low / 2, high * 2) }
    }
    self.low = low
    self.high = high
  }

  /// The place of a value; values beyond the ends lie at the ends.
  func position(_ value: Double) -> Double {
    let share: Double
    switch kind {
    case .linear: share = (value - low) / (high - low)
    case .logarithmic: share = value > 0 ? (log(value) - log(low)) / (log(high) - log(low)) : 0
    }
    return start + (end - start) * min(1, max(0, share.isNaN ? 0 : share))
  }

  /// Moves the ends outward to round values.
  mutating func round(base: Double = 10) {
    switch kind {
    case .linear: high = (high / step(5, base: base)).rounded(.up) * step(5, base: base)
    case .logarithmic:
      low = Self.roundDown(low)
      high = -Self.roundDown(-high)
    }
  }

  /// The next of 1, 2, 5 × 10ⁿ below a positive value, or (for a negative one) minus the next above its amount.
  private static func roundDown(_ value: Double) -> Double {
    let amount = abs(value)
    let power = pow(10, floor(log10(amount)))
    let steps: [Double] = [1, 2, 5, 10]
    if value > 0 { return (steps.last { $0 * power <= amount * 1.0000001 } ?? 1) * power }
    return -(steps.first { $0 * power >= amount * 0.9999999 } ?? 10) * power
  }

  /// A round distance that divides the axis into about `count` parts.
  private func step(_ count: Int, base: Double) -> Double {
    let raw = (high - low) / Double(count)
    if base == 1024, raw >= 1 {
      let power = pow(1024, floor(log(raw) / log(1024)))
      return [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024].first { $0 * power >= raw }! * power
    }
    let power = pow(10, floor(log10(raw)))
    return ([1, 2, 5].first { $0 * power >= raw * 0.9999 } ?? 10) * power
  }

  /// Round values along the axis, about `count` of them.
  /// - Parameter base: 1024 for bytes in IEC units.
  func ticks(_ count: Int = 5, base: Double = 10, label: (Double) -> String) -> [Tick] {
    switch kind {
    case .linear:
      let step = step(count, base: base)
      let first = (low / step).rounded(.up)
      return (0...2 * count).map { (first + Double($0)) * step }.filter { $0 <= high * 1.000001 }.map { Tick(value: $0, label: label($0)) }
    case .logarithmic:
      let decades = log10(high) - log10(low)
      let steps: [Double] = decades <= 2.2 ? [1, 2, 5] : [1]
      let stride = max(1, Int((decades / Double(count + 2)).rounded(.up)))
      let first = Int(floor(log10(low)))
      let last = Int(ceil(log10(high)))
      guard first <= last else { return [] }
      var ticks: [Tick] = []
      for exponent in first...last where (exponent - first) % stride == 0 {
        for step in steps {
          let value = step * pow(10, Double(exponent))
          if value >= low * 0.9999, value <= high * 1.0001 { ticks.append(Tick(value: value, label: label(value))) }
        }
      }
      return ticks
    }
  }
}

/// Labels of axes.
enum AxisLabel {
  /// `10 µs`, `1.5 ms`: a duration without digits that say nothing.
  static func duration(_ nanoseconds: Double) -> String {
    for (unit, scale) in [("s", 1e9), ("ms", 1e6), ("µs", 1e3)] where abs(nanoseconds) >= scale * 0.9999 {
      return "\(number(nanoseconds / scale)) \(unit)"
    }
    return "\(number(nanoseconds)) \(nanoseconds == 0 ? "s" : "ns")"
  }

  /// `20`, `1.5 k`, `2 M`.
  static func count(_ value: Double) -> String {
    for (unit, scale) in [("G", 1e9), ("M", 1e6), ("k", 1e3)] where abs(value) >= scale * 0.9999 {
      return "\(number(value / scale)) \(unit)"
    }
    return number(value)
  }

  /// `64 KiB`, `1.5 GB`.
  static func bytes(_ value: Double, _ units: ByteUnits) -> String {
    var value = value
    var unit = -1
    while value >= units.base * 0.9999, unit < units.names.count - 1 {
      value /= units.base
      unit += 1
    }
    return "\(number(value)) \(unit < 0 ? "B" : units.names[unit])"
  }

  /// At most three digits behind the point, none that are 0.
  static func number(_ value: Double) -> String {
    var text = Decimal.text(value, digits: abs(value) >= 100 ? 0 : abs(value) >= 10 ? 1 : abs(value) >= 1 ? 2 : 3)
    guard text.contains(".") else { return text }
    while text.last == "0" { text.removeLast() }
    if text.last == "." { text.removeLast() }
    return text
  }
}
