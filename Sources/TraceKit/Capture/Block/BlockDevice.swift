import CTrace
import Glibc

/// A block device as the block route sees it: the disk whose requests are traced, and the part of it that is meant.
public struct BlockDevice: Hashable, Sendable {
  /// The path that was given.
  public var path: String
  /// major << 20 | minor of the device itself, as the kernel writes it.
  public var device: UInt32
  /// The same of the disk whose queue has the requests; the device's own unless it is a partition.
  public var disk: UInt32
  /// Bytes of the disk where the device begins.
  public var startBytes: UInt64
  public var sizeBytes: UInt64
  /// The disk has requests of its own; stacked devices (dm, md) pass on what they get.
  public var hasRequests: Bool
  /// Folder of the device in /sys.
  let folder: String

  init(
    path: String, device: UInt32, disk: UInt32, startBytes: UInt64, sizeBytes: UInt64, hasRequests: Bool, folder: String
  ) {
    self.path = path
    self.device = device
    self.disk = disk
    self.startBytes = startBytes
    self.sizeBytes = sizeBytes
    self.hasRequests = hasRequests
    self.folder = folder
  }

  public var isPartition: Bool { device != disk }

  /// Examines a device file.
  /// - Throws: when it is not one.
  init(_ path: String) throws(TraceError) {
    var status = stat()
    guard stat(path, &status) == 0 else { throw TraceError(path: path, "examine it", errno: errno) }
    guard FileMode.kind(status.st_mode) == .blockDevice else {
      throw TraceError(
        .refused, "\(PrintableText.escaped(path)): not a block device (see 'lsblk -p'); for the calls of programs there is 'attach'")
    }
    let (major, minor) = (ctrace_major(UInt64(status.st_rdev)), ctrace_minor(UInt64(status.st_rdev)))
    guard let resolved = realpath("/sys/dev/block/\(major):\(minor)", nil) else {
      throw TraceError(.refused, "\(PrintableText.escaped(path)): the kernel has no block device \(major):\(minor)")
    }
    defer { free(resolved) }
    folder = String(cString: resolved)
    self.path = path
    device = UInt32(major) << 20 | UInt32(minor)
    sizeBytes = Self.sectors("\(folder)/size") * 512
    var diskFolder = folder
    if access("\(folder)/partition", F_OK) == 0 {
      startBytes = Self.sectors("\(folder)/start") * 512
      diskFolder = String(folder[..<(folder.lastIndex(of: "/") ?? folder.endIndex)])
      guard let number = Self.number("\(diskFolder)/dev") else {
        throw TraceError(.refused, "\(PrintableText.escaped(path)): a partition of no known disk")
      }
      disk = number
    } else {
      startBytes = 0
      disk = device
    }
    hasRequests = access("\(diskFolder)/mq", F_OK) == 0
  }

  private static func sectors(_ path: String) -> UInt64 { SmallFile.line(path).flatMap { UInt64($0) } ?? 0 }

  /// `7:3` as major << 20 | minor.
  private static func number(_ path: String) -> UInt32? {
    let parts = (SmallFile.line(path) ?? "").split(separator: ":").compactMap { UInt32($0) }
    return parts.count == 2 && parts[0] < 1 << 12 && parts[1] < 1 << 20 ? parts[0] << 20 | parts[1] : nil
  }

  /// The devices that a list of paths means, each once.
  /// - Throws: when one is no block device, or one stands upon another: each request would be recorded twice.
  static func resolve(_ paths: [String]) throws(TraceError) -> [BlockDevice] {
    var devices: [BlockDevice] = []
    for path in paths {
      let device = try BlockDevice(path)
      if !devices.contains(where: { $0.device == device.device }) { devices.append(device) }
    }
    for device in devices {
      if device.isPartition, let disk = devices.first(where: { $0.device == device.disk }) {
        throw TraceError(
          .refused,
          "\(PrintableText.escaped(device.path)): a partition of \(PrintableText.escaped(disk.path)), whose recording has its requests; name one of them"
        )
      }
      let below = device.lowerDevices
      if let lower = devices.first(where: { below.contains($0.device) || below.contains($0.disk) }) {
        throw TraceError(
          .refused,
          "\(PrintableText.escaped(device.path)): stands upon \(PrintableText.escaped(lower.path)), so that each request would be recorded twice; name one of them"
        )
      }
    }
    return devices
  }

  /// The devices that this one stands upon, and those below them.
  private var lowerDevices: Set<UInt32> {
    var found = Set<UInt32>()
    var waiting = ["\(folder)/slaves"]
    while let next = waiting.popLast(), found.count < 1024 {
      for name in SmallFile.names(in: next) {
        guard let number = Self.number("\(next)/\(name)/dev"), found.insert(number).inserted else { continue }
        waiting.append("\(next)/\(name)/slaves")
      }
    }
    return found
  }

  /// The kernel's counters of the device at this moment; nil when they can't be read.
  var statistics: BlockStatistics? { SmallFile.line("\(folder)/stat").flatMap { BlockStatistics($0) } }

  /// The row of the trace's file table.
  var facts: DescriptorFacts? { DescriptorFacts(device: path) }
}
