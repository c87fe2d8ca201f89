/// Which events of tracefs the block route reads, and where their fields are; from the `format` files of this kernel.
struct BlockEvents: Sendable {
  enum Role: Sendable {
    /// A request was made for a bio: its submitter, and the time when it began to wait.
    case start
    case issue, complete, requeue
    /// A bio was put in front of a request, whose first sector is another one from here on.
    case frontMerge
    /// A request became part of another.
    case merge
    /// Stacked devices have bios only.
    case bioQueue, bioComplete
  }
  struct Entry: Sendable {
    var role: Role
    var device: TraceEventFormat.Field
    var sector: TraceEventFormat.Field
    var sectors: TraceEventFormat.Field
    /// Bytes of a request, which say more than its sectors where those are not shown (discards).
    var bytes: TraceEventFormat.Field?
    var error: TraceEventFormat.Field?
    var letters: TraceEventFormat.Field
  }
  /// By `common_type`.
  private(set) var entries: [Int: Entry] = [:]
  private(set) var names: [String] = []
  let typeField: TraceEventFormat.Field
  let threadField: TraceEventFormat.Field

  typealias Formats = (_ system: String, _ event: String) throws(TraceError) -> TraceEventFormat?

  /// - Parameter formats: the format of an event, nil for one that the kernel lacks.
  /// - Throws: when the kernel has no events of block requests.
  init(_ formats: Formats, hasRequests: Bool, hasBios: Bool) throws(TraceError) {
    guard let issue = try formats("block", "block_rq_issue") else {
      throw TraceError(.unsupported, "this kernel has no events of block requests (CONFIG_BLK_DEV_IO_TRACE)")
    }
    typeField = try issue.field("common_type")
    threadField = try issue.field("common_pid")
    if hasRequests {
      try add(.issue, "block_rq_issue", formats)
      try add(.complete, "block_rq_complete", formats)
      try add(.requeue, "block_rq_requeue", formats)
      try add(.merge, "block_rq_merge", formats)
      try add(.frontMerge, "block_bio_frontmerge", formats)
      // Newer kernels say when accounting of a request begins; with older ones the queue of the scheduler tells.
      if try !add(.start, "block_io_start", formats) { try add(.start, "block_rq_insert", formats) }
    }
    if hasBios {
      try add(.bioQueue, "block_bio_queue", formats)
      try add(.bioComplete, "block_bio_complete", formats)
    }
  }

  @discardableResult
  private mutating func add(_ role: Role, _ name: String, _ formats: Formats) throws(TraceError) -> Bool {
    guard let format = try formats("block", name) else { return false }
    let fields = Dictionary(format.fields.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    entries[Int(format.number)] = Entry(
      role: role, device: try format.field("dev"), sector: try format.field("sector"), sectors: try format.field("nr_sector"),
      bytes: fields["bytes"], error: fields["error"], letters: try format.field("rwbs"))
    names.append(name)
    return true
  }
}
