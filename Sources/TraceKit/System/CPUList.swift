/// Lists of CPUs as the kernel writes them: `0,2-5`.
public enum CPUList {
  /// CPUs are below this number (CONFIG_NR_CPUS of the largest distribution kernels).
  static let maximumCPUs = 8192

  /// The CPUs of a list, in its order; nil for anything else.
  public static func parse(_ text: String) -> [Int]? {
    var cpus: [Int] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
      guard let first = ends[0], ends.count <= 2, let last = ends[ends.count - 1], first >= 0, first <= last, last < maximumCPUs else {
        return nil
      }
      cpus += first...last
    }
    return cpus.count <= maximumCPUs ? cpus : nil
  }
}
