import CTrace
import Glibc

/// Paths that programs in the kernel read from the memory of the recorded one: names of files that are closed before /proc could be
/// asked, and the folders that relative paths begin with.
extension SyscallStream {
  /// The end of a call that named a path, or changed what names are relative to.
  @inline(never)
  mutating func takeName(_ kind: SyscallKind, _ index: Int32, _ event: RingPage.Event, _ result: Int64) {
    guard result >= 0, result < Int64(OpenFiles.descriptorLimit) else { return }
    let process = threads[index].pointee.process
    switch kind {
    case .fchdir, .chdir:
      let path = kind == .chdir ? path(event) : openFolder(process, Int32(truncatingIfNeeded: threads[index].pointee.arguments.0))
      changeFolder(process, path, event.nanoseconds)
    case .open, .openat, .openat2, .creat: nameOpened(kind, index, event, result)
    default: break
    }
  }

  /// The path behind a record; nil when it could not be read, or not to its end.
  private func path(_ event: RingPage.Event) -> [UInt8]? {
    let head = SyscallEvents.recordBytes
    guard event.length > head else { return nil }
    // The length counts the zero at the end; a path that fills its room may be cut.
    let length = event.bytes.load(fromByteOffset: 24, as: UInt64.self)
    guard length > 1, length < UInt64(CallPrograms.pathBytes), head + Int(length) <= event.length else { return nil }
    return Array(UnsafeRawBufferPointer(start: event.bytes + head, count: Int(length) - 1))
  }

  /// Asks /proc for the folder that a process works in from now on.
  mutating func lookUpFolder(_ process: Int32) {
    guard let path = GivenName.folder("/proc/\(processes[Int(process)].number)/cwd") else { return }
    folders[process] = Folder(path: path, nanoseconds: UInt64(ctrace_monotonic_ns()))
  }

  /// The folder that a process worked in at a time; nil when only a later one is known.
  private mutating func folder(_ process: Int32, at time: UInt64) -> [UInt8]? {
    if folders[process] == nil { lookUpFolder(process) }
    return folders[process].flatMap { $0.nanoseconds < time ? $0.path : nil }
  }

  /// The folder that a descriptor stands for; nil when that is not known.
  private mutating func openFolder(_ process: Int32, _ descriptor: Int32) -> [UInt8]? {
    open.folder(open.find(processes[Int(process)].table, descriptor))
  }

  /// A process went into another folder: one that it named, or that of a descriptor.
  private mutating func changeFolder(_ process: Int32, _ path: [UInt8]?, _ time: UInt64) {
    // What /proc said since holds.
    if let known = folders[process], known.nanoseconds >= time { return }
    let joined = path.flatMap { GivenName.join(folder(process, at: time), $0) }
    folders[process] = nil
    if let joined { folders[process] = Folder(path: joined, nanoseconds: time) } else { lookUpFolder(process) }
  }

  /// A new process begins in its parent's folder.
  mutating func inheritFolder(_ process: Int32, from parent: Int32, at time: UInt64) {
    if let path = folder(parent, at: time) { folders[process] = Folder(path: path, nanoseconds: time) }
  }

  private mutating func nameOpened(_ kind: SyscallKind, _ index: Int32, _ event: RingPage.Event, _ result: Int64) {
    let state = threads[index].pointee
    let description = open.find(processes[Int(state.process)].table, Int32(result))
    guard description >= 0, let path = path(event) else { return }
    let time = event.nanoseconds
    let arguments = state.arguments
    let isRelativeToDescriptor = kind == .openat || kind == .openat2
    let directory = isRelativeToDescriptor ? Int32(truncatingIfNeeded: arguments.0) : AT_FDCWD
    let flags: UInt32? =
      switch kind {
      case .open: UInt32(truncatingIfNeeded: arguments.1)
      case .openat: UInt32(truncatingIfNeeded: arguments.2)
      case .creat: UInt32(O_CREAT | O_WRONLY | O_TRUNC)
      default: nil
      }
    let base: [UInt8]? =
      if path.first == UInt8(ascii: "/") { nil } else if directory == AT_FDCWD { folder(state.process, at: time) } else {
        openFolder(state.process, directory)
      }
    let given = GivenName(path, in: base, process: state.process, flags: flags, nanoseconds: time)
    if !given.isOfFolderOnly, !given.plainPath.isEmpty { open.name(description, given) }
  }
}
