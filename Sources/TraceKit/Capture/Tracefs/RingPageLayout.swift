/// What `events/header_page` says of a page of a CPU's ring buffer.
struct RingPageLayout: Hashable, Sendable {
  var timestampOffset: Int
  var commitOffset: Int
  var commitBytes: Int
  var dataOffset: Int
  /// Header and data.
  var pageBytes: Int

  /// Reads the text of `header_page`.
  /// - Throws: when a field is missing or out of proportion.
  init(_ text: String) throws(TraceError) {
    var fields: [String: TraceEventFormat.Field] = [:]
    for line in text.split(separator: "\n") {
      let trimmed = line.drop { $0 == "\t" || $0 == " " }
      if let field = TraceEventFormat.field(trimmed), fields[field.name] == nil { fields[field.name] = field }
    }
    guard let time = fields["timestamp"], let commit = fields["commit"], let data = fields["data"], time.size == 8,
      commit.size == 8 || commit.size == 4, data.size >= 64, data.size <= 1 << 20, commit.offset >= time.offset + 8,
      data.offset >= commit.offset + commit.size
    else { throw TraceError(.unsupported, "tracefs: this kernel's header_page is not understood") }
    timestampOffset = time.offset
    commitOffset = commit.offset
    commitBytes = commit.size
    dataOffset = data.offset
    pageBytes = data.offset + data.size
  }
}
