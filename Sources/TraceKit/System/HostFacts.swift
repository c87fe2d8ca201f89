import CTrace

/// What a report or a trace says of the machine that it was made on.
public struct HostFacts: Codable, Hashable, Sendable {
  /// A block device and its scheduler, as in /sys/block.
  public struct Device: Codable, Hashable, Sendable {
    public var name: String
    public var sizeBytes: UInt64?
    public var rotational: Bool?
    public var scheduler: String?

    enum CodingKeys: String, CodingKey {
      case name
      case sizeBytes = "size_bytes"
      case rotational, scheduler
    }
  }
  public var hostName: String
  public var kernel: String
  public var architecture: String
  public var cpuCount: Int
  public var cpuModel: String?
  public var memoryBytes: UInt64?
  /// The kernel's clock source, as in /sys/devices/system/clocksource.
  public var clockSource: String?
  public var devices: [Device]

  enum CodingKeys: String, CodingKey {
    case hostName = "host_name"
    case kernel, architecture
    case cpuCount = "cpu_count"
    case cpuModel = "cpu_model"
    case memoryBytes = "memory_bytes"
    case clockSource = "clock_source"
    case devices
  }

  /// The facts of this machine, read from uname(2), /proc and /sys; what can't be read is nil.
  public static func current() -> HostFacts {
    var name = utsname()
    uname(&name)
    let pages = sysconf(Int32(_SC_PHYS_PAGES))
    return HostFacts(
      hostName: text(of: name.nodename), kernel: "\(text(of: name.sysname)) \(text(of: name.release))",
      architecture: text(of: name.machine), cpuCount: max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))),
      cpuModel: cpuModel(), memoryBytes: pages > 0 ? UInt64(pages) * UInt64(sysconf(Int32(_SC_PAGESIZE))) : nil,
      clockSource: SmallFile.line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
      devices: blockDevices())
  }

  private static func text<T>(of tuple: T) -> String {
    withUnsafeBytes(of: tuple) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }

  private static func cpuModel() -> String? {
    guard let text = SmallFile.text("/proc/cpuinfo") else { return nil }
    let line = text.split(separator: "\n").first { $0.hasPrefix("model name") }
    return line?.split(separator: ":", maxSplits: 1).last.map { String($0.drop { $0 == " " }) }
  }

  private static func blockDevices() -> [Device] {
    SmallFile.names(in: "/sys/block").filter { !$0.hasPrefix("loop") && !$0.hasPrefix("ram") }.prefix(64).map { name in
      let folder = "/sys/block/\(name)"
      let scheduler = SmallFile.line("\(folder)/queue/scheduler").map { line in
        line.split(separator: " ").first { $0.hasPrefix("[") }.map { String($0.dropFirst().dropLast()) } ?? line
      }
      return Device(
        name: name, sizeBytes: SmallFile.line("\(folder)/size").flatMap(UInt64.init).map { $0 &* 512 },
        rotational: SmallFile.line("\(folder)/queue/rotational").map { $0 == "1" }, scheduler: scheduler)
    }
  }
}
