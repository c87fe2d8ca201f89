import CTrace
import Glibc

/// The opened targets of a replay. Scratch files are filled where they will be read, and removed at the end.
final class TargetSet {
  private(set) var targets: [ReplayTarget]
  /// Folder of the scratch files, when there are some.
  private(set) var scratchFolder: String?
  /// Things that a report must say: O_DIRECT that a target does not take, and the like.
  private(set) var notes: [String] = []
  private let files: [TraceFile]
  private let survey: TraceSurvey
  private let options: TargetOptions
  /// What files are filled with when verification will read it; otherwise it comes from the payload.
  private let stamps: StampedBlock?
  private var scratchDescriptor: Int32 = -1
  private var filledBytes: UInt64 = 0
  private var bytesToFill: UInt64 = 0
  /// Existing files and devices that are open: device and inode, and the first target.
  private var opened: [Identity: Int] = [:]
  private struct Identity: Hashable {
    var device: UInt64
    var inode: UInt64
  }
  /// Existing files and devices that some recorded file writes to.
  private var changed: Set<Identity> = []

  /// Opens and prepares every target of `plan`. Files that existed are never truncated.
  /// - Parameter progress: called now and then while files are filled, with the bytes done and all of them.
  init(
    _ plan: TargetPlan, files: [TraceFile], survey: TraceSurvey, options: TargetOptions, payload: Payload,
    stamps: StampedBlock? = nil, progress: (UInt64, UInt64) -> Void = { _, _ in }
  ) throws(TraceError) {
    self.files = files
    self.survey = survey
    self.options = options
    self.stamps = stamps
    targets = Array(repeating: ReplayTarget(path: ""), count: files.count)
    Self.raiseDescriptorLimit()
    do {
      try checkSpace(plan)
      if let parent = plan.scratchParent { try makeScratch(in: parent) }
      for entry in plan.entries where entry.exists && survey.files[Int(entry.file)].changes {
        changed.insert(Identity(device: entry.device, inode: entry.inode))
      }
      for entry in plan.entries where !entry.exists {
        let size = initialSize(Int(entry.file))
        bytesToFill += min(size, survey.files[Int(entry.file)].readAreas.bytes)
      }
      for entry in plan.entries { try open(entry, payload, progress) }
    } catch {
      cleanUp()
      throw error
    }
  }

  deinit { cleanUp() }

  /// Closes everything and removes scratch files unless they are kept. Harmless when called twice.
  func cleanUp() {
    for i in targets.indices {
      if targets[i].directDescriptor >= 0, targets[i].directDescriptor != targets[i].descriptor { close(targets[i].directDescriptor) }
      if targets[i].descriptor >= 0 { close(targets[i].descriptor) }
      targets[i].descriptor = -1
      targets[i].directDescriptor = -1
    }
    guard let folder = scratchFolder, scratchDescriptor >= 0 else { return }
    if !options.keepScratch {
      // Files that were made in a folder that the user named stay.
      for target in targets where target.isNew && target.path.hasPrefix(folder + "/") { unlink(target.path) }
      rmdir(folder)
    }
    close(scratchDescriptor)
    scratchDescriptor = -1
  }

  /// One descriptor per file, and traces have many: up to the hard limit.
  private static func raiseDescriptorLimit() {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }

  // MARK: Space

  /// Bytes that must exist before the replay begins.
  private func initialSize(_ id: Int) -> UInt64 {
    let file = survey.files[id]
    // An overwrite costs another than an extension: what existed when it was recorded exists again.
    let overwritten = min(file.writeEnd, files[id].sizeBytes ?? (files[id].kind == .regular ? 0 : file.writeEnd))
    return max(file.neededBefore, overwritten)
  }

  private func checkSpace(_ plan: TargetPlan) throws(TraceError) {
    var needed: [String: UInt64] = [:]
    for entry in plan.entries where !entry.exists {
      let file = survey.files[Int(entry.file)]
      let folder = entry.below.map { $0.folder.isEmpty ? plan.scratchParent ?? "/tmp" : $0.folder } ?? "/"
      let reads = min(file.readAreas.bytes, max(file.neededBefore, 4096))
      let writes = min(file.writeAreas.bytes, max(file.writeEnd, 4096))
      needed[folder, default: 0] += min(reads + writes, max(file.readEnd, file.writeEnd))
    }
    for (folder, bytes) in needed {
      var space = statvfs()
      guard statvfs(folder, &space) == 0 else { continue }
      let free = UInt64(space.f_bavail) * UInt64(space.f_frsize)
      guard bytes > free else { continue }
      throw TraceError(
        .refused,
        "\(PrintableText.escaped(folder)): too little room for scratch files: \(ByteCount.text(bytes)) needed, \(ByteCount.text(free)) free; --scratch or --target names another folder, --to and --file choose a part of the trace"
      )
    }
  }

  // MARK: Opening

  private func makeScratch(in parent: String) throws(TraceError) {
    var template = Array("\(parent)/trace-replay.XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      throw TraceError(path: parent, "make a scratch folder in it", errno: errno, hint: "--scratch names another")
    }
    let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    scratchFolder = folder
    scratchDescriptor = ctrace_open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
  }

  private func open(_ entry: TargetPlan.Entry, _ payload: Payload, _ progress: (UInt64, UInt64) -> Void) throws(TraceError) {
    let id = Int(entry.file)
    var target = ReplayTarget(path: entry.path)
    target.isBlockDevice = entry.isBlockDevice
    target.sizeBytes = entry.sizeBytes
    target.bytesToWrite = survey.files[id].bytesToWrite
    target.placement = entry.placement
    target.primary = id
    target.requests = survey.files[id].requests
    if entry.exists {
      let identity = Identity(device: entry.device, inode: entry.inode)
      if let first = opened[identity] {
        target.primary = first
        target.descriptor = fcntl(targets[first].descriptor, F_DUPFD_CLOEXEC, 0)
        guard target.descriptor >= 0 else { throw TraceError(path: entry.path, "open it again", errno: errno) }
      } else {
        target.descriptor = try openExisting(entry, changes: changed.contains(identity))
        opened[identity] = id
      }
    } else if let below = entry.below {
      target.isNew = true
      target.path = below.folder.isEmpty ? "\(scratchFolder!)/\(below.relative)" : entry.path
      target.descriptor = try create(below)
    }
    targets[id] = target
    if target.isNew { try prepare(id, payload, progress) }
    if survey.files[id].flags.contains(.direct) { try openDirect(id) }
  }

  private func openExisting(_ entry: TargetPlan.Entry, changes: Bool) throws(TraceError) -> Int32 {
    var flags = (changes ? O_RDWR : O_RDONLY) | O_CLOEXEC
    if entry.isBlockDevice, changes { flags |= O_EXCL }
    let descriptor: Int32
    if let below = entry.below {
      let folder = ctrace_open(below.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
      defer { close(folder) }
      descriptor = ctrace_openat2(folder, below.relative, UInt64(flags), 0, CTRACE_RESOLVE_BENEATH | CTRACE_RESOLVE_NO_SYMLINKS)
    } else {
      descriptor = Self.openPatiently(entry.path, flags)
    }
    guard descriptor >= 0 else { throw TraceError(path: entry.path, changes ? "open it for writing" : "open it for reading", errno: errno) }
    return descriptor
  }

  /// The kernel may hold a device a moment longer than the process that had it open exclusively, for example a replay that was killed
  /// with requests in a ring.
  private static func openPatiently(_ path: String, _ flags: Int32) -> Int32 {
    for _ in 0..<40 {
      let descriptor = ctrace_open(path, flags, 0)
      if descriptor >= 0 || errno != EBUSY { return descriptor }
      usleep(25_000)
    }
    return ctrace_open(path, flags, 0)
  }

  /// Makes a file that did not exist, with its folders; no symbolic link is followed, and nothing outside the folder reached.
  private func create(_ below: (folder: String, relative: String)) throws(TraceError) -> Int32 {
    let resolve = CTRACE_RESOLVE_BENEATH | CTRACE_RESOLVE_NO_SYMLINKS
    let isScratch = below.folder.isEmpty
    let base = isScratch ? scratchDescriptor : ctrace_open(below.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
    defer { if !isScratch, base >= 0 { close(base) } }
    let shown = isScratch ? "\(scratchFolder!)/\(below.relative)" : "\(below.folder)/\(below.relative)"
    guard base >= 0 else { throw TraceError(path: below.folder, "open it", errno: errno) }
    var folder = base
    defer { if folder != base { close(folder) } }
    let components = below.relative.split(separator: "/").map(String.init)
    for component in components.dropLast() {
      if mkdirat(folder, component, 0o700) != 0, errno != EEXIST { throw TraceError(path: shown, "make its folder", errno: errno) }
      let next = ctrace_openat2(folder, component, UInt64(O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0, resolve)
      guard next >= 0 else { throw TraceError(path: shown, "open its folder", errno: errno) }
      if folder != base { close(folder) }
      folder = next
    }
    let descriptor = ctrace_openat2(folder, components.last!, UInt64(O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC), 0o600, resolve)
    guard descriptor >= 0 else {
      let hint = errno == EMFILE ? "the trace has more files than 'ulimit -n' allows; --file chooses some" : ""
      throw TraceError(path: shown, "create it", errno: errno, hint: hint)
    }
    return descriptor
  }

  /// A second descriptor with O_DIRECT, as recorded; a filesystem that has none is noted.
  private func openDirect(_ id: Int) throws(TraceError) {
    let flags = fcntl(targets[id].descriptor, F_GETFL) & O_ACCMODE
    let path = "/proc/self/fd/\(targets[id].descriptor)"
    targets[id].directDescriptor = ctrace_open(path, flags | CTRACE_O_DIRECT | O_CLOEXEC, 0)
    let alignment = targets[id].directDescriptor < 0 ? 0 : ctrace_direct_alignment(targets[id].directDescriptor)
    if alignment > 0 {
      targets[id].directAlignmentBytes = alignment
      let bits = survey.files[id].directBits | UInt64(targets[id].placement.offsetBytes)
      if bits & UInt64(alignment - 1) != 0 {
        add(
          "some requests with O_DIRECT are not multiples of the targets' block size of \(alignment) bytes: those go through the page cache")
      }
      return
    }
    if options.requiresDirect {
      throw TraceError(
        .refused, "\(PrintableText.escaped(targets[id].path)): its filesystem takes no O_DIRECT; without --direct it is cached")
    }
    add("O_DIRECT was recorded, but a target's filesystem does not take it: those requests go through the page cache")
  }

  private func add(_ note: String) { if !notes.contains(note) { notes.append(note) } }

  // MARK: Filling

  /// Gives a new file its size, and data where it will be read before it is written: holes would read too fast.
  private func prepare(_ id: Int, _ payload: Payload, _ progress: (UInt64, UInt64) -> Void) throws(TraceError) {
    let start = UInt64(targets[id].placement.offsetBytes)
    guard initialSize(id) > 0 else { return }
    let size = initialSize(id) + start
    let target = targets[id]
    guard size <= UInt64(Int64.max), ftruncate(target.descriptor, off_t(size)) == 0 else {
      throw TraceError(path: target.path, "give it \(ByteCount.text(size))", errno: errno)
    }
    targets[id].sizeBytes = size
    let areas = survey.files[id].readAreas
    let pieceBytes = min(1 << 20, payload.largestBytes)
    let stamped = UnsafeMutableRawPointer.allocate(byteCount: stamps == nil ? 1 : pieceBytes, alignment: 4096)
    defer { stamped.deallocate() }
    for area in areas.offsets {
      var offset = area + start
      let end = min(area + start + areas.chunkBytes, size)
      while offset < end {
        let count = Int(min(end - offset, UInt64(pieceBytes)))
        var memory = payload.slice(file: UInt32(id), offset: Int64(offset), sequence: UInt64.max)
        if let stamps {
          memory = stamped
          stamps.fill(memory, target: id, offset: Int64(offset), length: count, request: StampedBlock.filling)
        }
        let written = pwrite(target.descriptor, memory, count, off_t(offset))
        if written < 0, errno == EINTR { continue }
        guard written > 0 else { throw TraceError(path: target.path, "fill it", errno: errno) }
        offset += UInt64(written)
        filledBytes += UInt64(written)
      }
      progress(filledBytes, bytesToFill)
      if ctrace_stop_signal() != 0 { throw TraceError(.interrupted, "stopped while scratch files were being filled; nothing was replayed") }
    }
    // Write-back of the filling must not run into the replay.
    fdatasync(target.descriptor)
  }
}
