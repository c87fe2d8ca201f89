/// Failures that tests force on a context.
struct AIOFaults: Sendable {
  /// The errno of setting one up.
  var setUp: (@Sendable () -> Int32)?
  /// How many of a batch may be submitted, or −errno.
  var submit: (@Sendable (_ count: Int) -> Int)?
}
