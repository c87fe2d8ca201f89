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
    var placement = TargetPlacement()
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
    for id in used {
      let placed = entries.count
      let offset = try choose(id, single: used.count == 1)
      for i in placed..<entries.count { entries[i].placement = TargetPlacement(offsetBytes: try moved(id, by: offset)) }
    }
    try refuseReserved()
    try refuseWrites()
    try fitSizes()
    try refuseSharedTruncates()
  }

  // MARK: Choosing

  /// - Returns: what is added to the offsets of the file's requests.
  private mutating func choose(_ id: Int, single: Bool) throws(TraceError) -> UInt64 {
    let file = files[id]
    if let rule = mapping(file.path) {
      try follow(rule, id)
      return rule.offsetBytes &+ options.offsetBytes
    }
    try chooseUnmapped(id, single: single)
    return options.offsetBytes
  }

  /// - Throws: when an offset is added that leaves what file offsets can be.
  private func moved(_ id: Int, by offset: UInt64) throws(TraceError) -> Int64 {
    let file = survey.files[id]
    guard offset <= UInt64(Int64.max) - max(file.readEnd, file.writeEnd) else {
      throw TraceError(.refused, "\(files[id].displayPath): --offset \(offset) moves requests beyond what a file offset can be")
    }
    return Int64(offset)
  }

  private mutating func follow(_ rule: TargetRule, _ id: Int) throws(TraceError) {
    let (file, recorded, target) = (files[id], rule.recorded, rule.target)
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
    try existing(id, target)
  }

  private mutating func chooseUnmapped(_ id: Int, single: Bool) throws(TraceError) {
    let file = files[id]
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
  private func mapping(_ path: [UInt8]) -> TargetRule? {
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

  /// Existing targets that are too small are refused, or get an offset rule that keeps requests inside.
  private mutating func fitSizes() throws(TraceError) {
    for i in entries.indices where entries[i].exists {
      let entry = entries[i]
      let file = survey.files[Int(entry.file)]
      let span = max(file.readEnd, file.writeEnd)
      let offset = UInt64(entry.placement.offsetBytes)
      let needed = options.wrap != .error || entry.isBlockDevice ? span : file.neededBefore
      guard needed > 0, entry.sizeBytes < needed + offset else { continue }
      let room = entry.sizeBytes > offset ? entry.sizeBytes - offset : 0
      let start = "\(PrintableText.escaped(entry.path)): too small: it has \(ByteCount.text(room))"
      guard options.wrap != .error else {
        throw TraceError(
          .refused,
          "\(start), the trace reads or writes up to \(ByteCount.text(needed)); --to and --file choose a part of the trace, --wrap modulo and --wrap scale make it fit"
        )
      }
      guard room >= max(1, survey.largestRequestBytes) else {
        throw TraceError(.refused, "\(start), less than the longest request (\(ByteCount.text(survey.largestRequestBytes)))")
      }
      entries[i].placement = TargetPlacement(
        offsetBytes: entry.placement.offsetBytes, wrap: options.wrap, roomBytes: Int64(clamping: room), spanBytes: Int64(clamping: span))
    }
  }

  /// A truncation for one recorded file would cut off what belongs to another.
  private func refuseSharedTruncates() throws(TraceError) {
    var first: [String: UInt32] = [:]
    for entry in entries where entry.exists {
      let key = "\(entry.device) \(entry.inode)"
      guard let other = first[key] else {
        first[key] = entry.file
        continue
      }
      for file in [other, entry.file] where survey.files[Int(file)].truncates {
        throw TraceError(
          .refused,
          "\(PrintableText.escaped(entry.path)): stands for several recorded files, and \(files[Int(file)].displayPath) is truncated in the trace, which would cut off the others"
        )
      }
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
