/// What `--verify` found.
extension ReplayReport {
  /// Blocks of 512 bytes that were compared with what they should hold.
  public struct Verification: Codable, Hashable, Sendable {
    /// Blocks of reads that were compared during the run.
    public var readBlocksChecked: UInt64
    /// Blocks of reads whose right content is not known: a write was under way, or a target existed before.
    public var readBlocksNotChecked: UInt64
    public var readBlocksCorrupt: UInt64
    /// Written blocks that were compared after the run.
    public var blocksChecked: UInt64
    /// Written blocks whose right content is not known, because requests on them overlapped in time or failed.
    public var blocksAmbiguous: UInt64
    public var blocksCorrupt: UInt64
    /// The first 20 corrupt blocks.
    public var findings: [Finding]

    /// A block that holds something else than it should.
    public struct Finding: Codable, Hashable, Sendable {
      /// Path of the target, safe to print.
      public var target: String
      /// Offset in the target of the first byte that was compared.
      public var offsetBytes: UInt64
      /// A read of the replay met it; otherwise the check after the run.
      public var duringRun: Bool
      /// What should be there, and what is.
      public var message: String

      enum CodingKeys: String, CodingKey {
        case target
        case offsetBytes = "offset_bytes"
        case duringRun = "during_run"
        case message
      }
    }

    /// Nothing was found that should not be there.
    public var isClean: Bool { readBlocksCorrupt == 0 && blocksCorrupt == 0 }

    /// One sentence about the first finding; nil when there is none.
    public var complaint: String? {
      guard !isClean else { return nil }
      let start = "verification failed: \(readBlocksCorrupt) corrupt blocks in reads, \(blocksCorrupt) on the targets after the run"
      guard let first = findings.first else { return start }
      return "\(start); the first: \(first.target) at offset \(first.offsetBytes) \(first.message)"
    }

    enum CodingKeys: String, CodingKey {
      case readBlocksChecked = "read_blocks_checked"
      case readBlocksNotChecked = "read_blocks_not_checked"
      case readBlocksCorrupt = "read_blocks_corrupt"
      case blocksChecked = "blocks_checked"
      case blocksAmbiguous = "blocks_ambiguous"
      case blocksCorrupt = "blocks_corrupt"
      case findings
    }
  }

  /// The lines about verification; empty without one.
  var verificationText: String {
    guard let verification else { return "" }
    var text = "verified    \(verification.blocksChecked) written blocks of 512 B: \(verification.blocksCorrupt) corrupt"
    text += "; \(verification.blocksAmbiguous) more ambiguous (requests on them overlapped or failed)\n"
    text += "            \(verification.readBlocksChecked) blocks of reads: \(verification.readBlocksCorrupt) corrupt"
    text += "; \(verification.readBlocksNotChecked) more not checked (a write was under way, or the content not known)\n"
    for finding in verification.findings {
      text += "corrupt     \(finding.target) at offset \(finding.offsetBytes) \(finding.message)\n"
    }
    return text
  }
}
