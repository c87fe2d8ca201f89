import CTrace
import Glibc

/// Decides, before anything is touched, which target stands for each recorded file, and refuses what could destroy data.
struct TargetPlan {
  /// A decision for one recorded file.
  struct Entry {
    var file: UInt32
    var path: String
    /// Folder below which the file is made, and its path in it; nil for a target that exists.
    var below: (folder: String, relative: String)?
    var exists = false
    var isBlockDevice = false
    var sizeBytes: UInt64 = 0
    var device: UInt64 = 0
    var inode: UInt64 = 0
  }

  private(set) var entries: [Entry] = []
  /// Folder of scratch files, made by `open`.
  private(set) var scratchParent: String?
  private let options: TargetOptions
  private let files: [TraceFile]
  private let survey: TraceSurvey

  /// - Throws: a refusal that names target, reason and flag. Nothing has been opened for writing then.
  init(files: [TraceFile], survey: TraceSurvey, options: TargetOptions) throws(TraceError) {
    self.files = files
    self.survey = survey
    self.options = options
    let used = files.indices.filter { survey.files[$0].requests > 0 }
    for id in used { try choose(id, single: used.count == 1) }
    try refuseReserved()
    try refuseWrites()
    try checkSizes()
  }

  // MARK: Choosing

  private mutating func choose(_ id: Int, single: Bool) throws(TraceError) {
    let file = files[id]
    if let (recorded, target) = mapping(file.path) {
      let rest = Array(file.path.dropFirst(recorded.utf8.count))
      if isFolder(target) {
        let relative = rest.isEmpty ? lastComponent(file.path) : rest
        return try place(id, folder: target, relative: relative)
      }
      guard rest.isEmpty else {
        throw TraceError(
          .refused, "\(PrintableText.escaped(target)): --map \(PrintableText.escaped(recorded)) stands for a folder, the target must be one"
        )
      }
      return try existing(id, target)
    }
    guard let target = options.target else {
      if scratchParent == nil { scratchParent = options.scratch ?? environment("TMPDIR") ?? "/tmp" }
      guard isFolder(scratchParent!) else {
        throw TraceError(.refused, "\(PrintableText.escaped(scratchParent!)): no folder for scratch files; --scratch names another")
      }
      let name = Self.number(id) + "-" + Self.sanitized(lastComponent(file.path))
      entries.append(Entry(file: UInt32(id), path: name, below: ("", name)))
      return
    }
    if isFolder(target) { return try place(id, folder: target, relative: file.path) }
    guard single else {
      throw TraceError(
        .refused,
        "\(PrintableText.escaped(target)): one target, but the trace has several files; name a folder, --map each, or choose one with --file"
      )
    }
    try existing(id, target)
  }

  /// The rule with the longest prefix of whole components.
  private func mapping(_ path: [UInt8]) -> (recorded: String, target: String)? {
    options.map.filter { rule in
      let recorded = Array(rule.recorded.utf8)
      guard path.starts(with: recorded) else { return false }
      return path.count == recorded.count || recorded.last == 0x2F || path[recorded.count] == 0x2F
    }.max { $0.recorded.utf8.count < $1.recorded.utf8.count }
  }

  /// A file below a folder that the user named. A recorded path is untrusted: it must not lead out of the folder.
  private mutating func place(_ id: Int, folder: String, relative: [UInt8]) throws(TraceError) {
    let components = relative.split(separator: 0x2F).filter { $0.elementsEqual([0x2E]) == false }
    for component in components where component.elementsEqual([0x2E, 0x2E]) || component.contains(where: { $0 < 0x20 || $0 == 0x7F }) {
      throw TraceError(
        .refused,
        "\(files[id].displayPath): a recorded path with '..' or control characters is not made below \(PrintableText.escaped(folder)); without --target it gets a scratch file, --map gives it a name"
      )
    }
    guard !components.isEmpty else {
      throw TraceError(
        .refused, "\(PrintableText.escaped(folder)): is a folder, and the recorded file has no name to put there; --map names a file")
    }
    let path = components.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/")
    var entry = Entry(file: UInt32(id), path: "\(folder)/\(path)", below: (folder, path))
    var status = stat()
    // Symbolic links are not followed here; openat2 refuses them later anyway.
    if lstat(entry.path, &status) == 0 { try describe(&entry, status) }
    entries.append(entry)
  }

  private mutating func existing(_ id: Int, _ target: String) throws(TraceError) {
    var status = stat()
    guard stat(target, &status) == 0 else {
      throw TraceError(path: target, "use it as a target", errno: errno, hint: "a target file must exist; name a folder to have it made")
    }
    var entry = Entry(file: UInt32(id), path: target)
    try describe(&entry, status)
    entries.append(entry)
  }

  private func describe(_ entry: inout Entry, _ status: stat) throws(TraceError) {
    entry.exists = true
    entry.device = UInt64(status.st_dev)
    entry.inode = UInt64(status.st_ino)
    let shown = PrintableText.escaped(entry.path)
    switch FileMode.kind(status.st_mode) {
    case .regular: entry.sizeBytes = UInt64(status.st_size)
    case .blockDevice:
      entry.isBlockDevice = true
      entry.device = UInt64(status.st_rdev)
      entry.inode = UInt64.max
      entry.sizeBytes = try blockDeviceSize(entry.path)
    case let kind:
      throw TraceError(
        .refused,
        "\(shown): is a \(kind.name.split(separator: "_").joined(separator: " ")); a target is a regular file, a block device or a folder")
    }
    let survey = survey.files[Int(entry.file)]
    guard survey.changes else { return }
    if let use = entry.isBlockDevice ? DeviceUse.use(ofDevice: UInt64(status.st_rdev)) : DeviceUse.use(ofFile: status, path: entry.path) {
      throw TraceError(.refused, "\(shown): \(use); it is not written to, with --allow-writes neither")
    }
  }

  private func blockDeviceSize(_ path: String) throws(TraceError) -> UInt64 {
    let descriptor = ctrace_open(path, O_RDONLY | O_CLOEXEC, 0)
    guard descriptor >= 0 else { throw TraceError(path: path, "open it", errno: errno) }
    defer { close(descriptor) }
    var bytes: UInt64 = 0
    guard ctrace_block_size64(descriptor, &bytes) == 0 else { throw TraceError(path: path, "ask for its size", errno: errno) }
    return bytes
  }

  // MARK: Refusing

  private func refuseReserved() throws(TraceError) {
    for reserved in options.reservedPaths {
      var status = stat()
      guard stat(reserved, &status) == 0 else { continue }
      for entry in entries where entry.exists && entry.device == UInt64(status.st_dev) && entry.inode == UInt64(status.st_ino) {
        throw TraceError(
          .refused, "\(PrintableText.escaped(entry.path)): is the trace, the report or the log of this replay, and can't be its target")
      }
    }
  }

  private func refuseWrites() throws(TraceError) {
    guard !options.allowWrites else { return }
    let lost = entries.filter { $0.exists && survey.files[Int($0.file)].changes }
    guard let first = lost.first else { return }
    let bytes = lost.reduce(0) { $0 + survey.files[Int($1.file)].bytesToWrite }
    let others = lost.count > 1 ? " and \(lost.count - 1) more targets" : ""
    throw TraceError(
      .refused,
      "\(PrintableText.escaped(first.path))\(others): existed before, and the replay would overwrite \(ByteCount.text(bytes)) there; --allow-writes permits it, --dry-run lists the targets"
    )
  }

  private func checkSizes() throws(TraceError) {
    for entry in entries where entry.exists {
      let file = survey.files[Int(entry.file)]
      let needed = entry.isBlockDevice ? max(file.readEnd, file.writeEnd) : file.neededBefore
      guard entry.sizeBytes < needed else { continue }
      throw TraceError(
        .refused,
        "\(PrintableText.escaped(entry.path)): too small: it has \(ByteCount.text(entry.sizeBytes)), the trace reads or writes up to \(ByteCount.text(needed)); --to and --file choose a part of the trace"
      )
    }
  }

  // MARK: Names

  private func isFolder(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && FileMode.kind(status.st_mode) == .directory
  }

  private func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 } }

  private func lastComponent(_ path: [UInt8]) -> [UInt8] { path.split(separator: 0x2F).last.map(Array.init) ?? [] }

  private static func number(_ id: Int) -> String {
    let digits = String(id)
    return String(repeating: "0", count: max(0, 6 - digits.count)) + digits
  }

  /// Letters, digits, dot, dash and underscore; at most 64 of them.
  private static func sanitized(_ name: [UInt8]) -> String {
    let kept = name.prefix(64).map { byte -> UInt8 in
      let isPlain = byte >= 0x30 && byte <= 0x39 || byte >= 0x41 && byte <= 0x5A || byte >= 0x61 && byte <= 0x7A
      return isPlain || byte == 0x2E || byte == 0x2D || byte == 0x5F ? byte : 0x5F
    }
    return kept.isEmpty ? "file" : String(decoding: kept, as: UTF8.self)
  }
}
