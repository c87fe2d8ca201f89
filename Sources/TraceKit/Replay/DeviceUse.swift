import CTrace
import Glibc

/// Who uses a block device or file: mounted filesystems, swap, loop devices.
enum DeviceUse {
  /// What uses the device `number` (st_rdev) or one of its partitions, or nil.
  static func use(ofDevice number: UInt64) -> String? {
    let name = "\(ctrace_major(number)):\(ctrace_minor(number))"
    let family = [name] + partitions(of: name)
    for line in SmallFile.text("/proc/self/mountinfo")?.split(separator: "\n") ?? [] {
      let fields = line.split(separator: " ")
      guard fields.count > 4, family.contains(String(fields[2])) else { continue }
      return "mounted at \(PrintableText.escaped(String(fields[4])))"
    }
    for folder in ["/sys/dev/block/\(name)/holders"] {
      if let holder = SmallFile.names(in: folder).first { return "in use by \(holder)" }
    }
    for swap in swaps() {
      var status = stat()
      guard stat(swap, &status) == 0 else { continue }
      if FileMode.kind(status.st_mode) == .blockDevice,
        family.contains("\(ctrace_major(UInt64(status.st_rdev))):\(ctrace_minor(UInt64(status.st_rdev)))")
      {
        return "in use as swap"
      }
    }
    return nil
  }

  /// What uses a regular file as storage (swap, a loop device), or nil.
  static func use(ofFile status: stat, path: String) -> String? {
    for swap in swaps() where same(swap, status) { return "in use as swap" }
    for device in SmallFile.names(in: "/sys/block") where device.hasPrefix("loop") {
      if let backing = SmallFile.line("/sys/block/\(device)/loop/backing_file"), same(backing, status) {
        return "in use by /dev/\(device)"
      }
    }
    return nil
  }

  private static func same(_ path: String, _ status: stat) -> Bool {
    var other = stat()
    return stat(path, &other) == 0 && other.st_dev == status.st_dev && other.st_ino == status.st_ino
  }

  private static func swaps() -> [String] {
    (SmallFile.text("/proc/swaps")?.split(separator: "\n").dropFirst() ?? []).compactMap { $0.split(separator: " ").first.map(String.init) }
  }

  private static func partitions(of device: String) -> [String] {
    let folder = "/sys/dev/block/\(device)"
    return SmallFile.names(in: folder).compactMap { name in
      SmallFile.line("\(folder)/\(name)/partition") == nil ? nil : SmallFile.line("\(folder)/\(name)/dev")
    }
  }
}
