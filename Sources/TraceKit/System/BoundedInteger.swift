extension Int64 {
  /// A whole number near `value`; what is too large for one is cut, and what is no number is 0. Figures from files may be anything.
  init(bounded value: Double) {
    self = value.isNaN ? 0 : Int64(Swift.max(-9e18, Swift.min(9e18, value.rounded())))
  }
}
