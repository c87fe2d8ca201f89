/// Holm's correction of several tests made together (S. Holm, A simple sequentially rejective multiple test procedure,
/// Scandinavian Journal of Statistics 6, 1979).
public enum Holm {
  /// Adjusted p-values in the order of `pValues`; nil stays nil and does not count.
  public static func adjusted(_ pValues: [Double?]) -> [Double?] {
    let tested = pValues.indices.filter { pValues[$0] != nil }.sorted { pValues[$0]! < pValues[$1]! }
    var adjusted = pValues
    var largest = 0.0
    for (rank, index) in tested.enumerated() {
      largest = max(largest, min(1, Double(tested.count - rank) * pValues[index]!))
      adjusted[index] = largest
    }
    return adjusted
  }
}
