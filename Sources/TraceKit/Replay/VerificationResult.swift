/// What verification found out.
struct VerificationResult: Sendable {
  /// A block that does not hold what it should.
  struct Finding: Sendable {
    var target: Int
    var offsetBytes: Int64
    /// A read of the replay saw it; otherwise the check after the run.
    var duringRun: Bool
    /// The request whose data should be there; nil for data of several, zeros, or what was there before.
    var expected: UInt64?
    /// The request whose stamp is there instead.
    var found: UInt64?
    var isZero: Bool

    /// What is wrong, without place.
    var text: String {
      func data(_ request: UInt64) -> String {
        request == StampedBlock.filling ? "what it was filled with before the run" : "data of request \(request)"
      }
      let there = isZero ? "zeros" : found.map(data) ?? "neither that nor anything that this replay wrote there"
      return
        "should hold \(expected.map(data) ?? "data of several requests"), holds \(found == expected && !isZero ? "damaged bytes" : there)"
    }
  }

  static let maximumFindings = 20
  /// Blocks of 512 bytes that reads moved and that were compared, and those of which it is not known what they should hold
  /// because a write was under way, or the target existed before.
  var readBlocksChecked: UInt64 = 0
  var readBlocksNotChecked: UInt64 = 0
  var readBlocksCorrupt: UInt64 = 0
  /// Blocks that the replay wrote, compared after the run; those that overlapping or failed writes leave unknown.
  var blocksChecked: UInt64 = 0
  var blocksAmbiguous: UInt64 = 0
  var blocksCorrupt: UInt64 = 0
  /// The first ones.
  var findings: [Finding] = []

  var isClean: Bool { readBlocksCorrupt == 0 && blocksCorrupt == 0 }

  mutating func add(_ other: VerificationResult) {
    readBlocksChecked += other.readBlocksChecked
    readBlocksNotChecked += other.readBlocksNotChecked
    readBlocksCorrupt += other.readBlocksCorrupt
    blocksChecked += other.blocksChecked
    blocksAmbiguous += other.blocksAmbiguous
    blocksCorrupt += other.blocksCorrupt
    findings += other.findings.prefix(max(0, Self.maximumFindings - findings.count))
  }

  mutating func note(_ finding: Finding) { if findings.count < Self.maximumFindings { findings.append(finding) } }
}
