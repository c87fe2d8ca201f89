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

  /// - Throws: when the kernel has no events of block requests.
  init(_ tracefs: Tracefs, hasRequests: Bool, hasBios: Bool) throws(TraceError) {
    guard let issue = try tracefs.format("block", "block_rq_issue") else {
      throw TraceError(.unsupported, "this kernel has no events of block requests (CONFIG_BLK_DEV_IO_TRACE)")
    }
    typeField = try issue.field("common_type")
    threadField = try issue.field("common_pid")
    if hasRequests {
      try add(.issue, "block_rq_issue", tracefs)
      try add(.complete, "block_rq_complete", tracefs)
      try add(.requeue, "block_rq_requeue", tracefs)
      try add(.merge, "block_rq_merge", tracefs)
      try add(.frontMerge, "block_bio_frontmerge", tracefs)
      // Newer kernels say when accounting of a request begins; with older ones the queue of the scheduler tells.
      if try !add(.start, "block_io_start", tracefs) { try add(.start, "block_rq_insert", tracefs) }
    }
    if hasBios {
      try add(.bioQueue, "block_bio_queue", tracefs)
      try add(.bioComplete, "block_bio_complete", tracefs)
    }
  }

  @discardableResult
  private mutating func add(_ role: Role, _ name: String, _ tracefs: Tracefs) throws(TraceError) -> Bool {
    guard let format = try tracefs.format("block", name) else { return false }
    let fields = Dictionary(format.fields.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    entries[Int(format.number)] = Entry(
      role: role, device: try format.field("dev"), sector: try format.field("sector"), sectors: try format.field("nr_sector"),
      bytes: fields["bytes"], error: fields["error"], letters: try format.field("rwbs"))
    names.append(name)
    return true
  }
}
