/// What a trace says of itself: JSON in its metadata block. Unknown keys are skipped by readers.
public struct TraceMetadata: Codable, Hashable, Sendable {
  /// Wall-clock time of the trace's time 0, in nanoseconds since 1970-01-01 UTC; nil when the source does not know it.
  public var epochUnixNanoseconds: Int64?
  /// How the trace came about: `preload`, `syscalls`, `block`, `import`, `replay`, `generated`.
  public var source: String
  /// Foreign format of an import (`fio`, `vscsi`), with the units that were assumed.
  public var sourceDetail: String?
  /// The recorded command, or the imported file's name.
  public var command: [String]?
  /// Options that shaped the recording, by flag name.
  public var options: [String: String]?
  /// Recorder's name and version.
  public var tool: String?
  public var host: HostFacts?
  /// The clock of the start times, as in clock_gettime(2).
  public var clock: String?
  /// Measured cost of recording one call on this host.
  public var costPerEventNanoseconds: Double?
  /// deflate level of the blocks.
  public var compressionLevel: Int?
  /// Paths were replaced by keyed hashes.
  public var anonymized: Bool?
  /// Digest of the trace that was replayed, when this trace is the log of a replay (hexadecimal).
  public var replayedDigest: String?
  /// Figures that are known only at the end (coverage, drops by cause, exit status), by name.
  public var summary: [String: String]?
  /// What a recording saw, missed and cost; nil in traces that no recorder closed.
  public var ledger: RecordingLedger?
  /// The recording is of some files or threads only.
  public var sample: SampleRule?
  /// Number of this trace among the pieces of one recording, from 1; nil for one that is not in pieces.
  public var piece: Int?

  /// What made a recorder that keeps the last events in memory write this trace, in words.
  public var trigger: String?

  public init(source: String) { self.source = source }

  enum CodingKeys: String, CodingKey {
    case epochUnixNanoseconds = "epoch_unix_ns"
    case source
    case sourceDetail = "source_detail"
    case command, options, tool, host, clock
    case costPerEventNanoseconds = "cost_per_event_ns"
    case compressionLevel = "compression_level"
    case anonymized
    case replayedDigest = "replayed_digest"
    case summary, ledger, sample, piece, trigger
  }
}
