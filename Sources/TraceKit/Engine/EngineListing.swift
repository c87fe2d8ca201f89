/// The engines as a text: each with what it is, whether this machine can run it (or why not), and what it supports.
public enum EngineListing {
  public static var text: String { EngineRegistry.entries.map(row).joined(separator: "\n") }

  private static func row(_ engine: EngineRegistry.Entry) -> String {
    let unavailability = engine.unavailability()
    let operations = IOOperation.Kind.allCases.filter { engine.capabilities.operations.contains($0) }.map(\.name)
    var text = "\(engine.name): \(engine.summary)\n"
    text += "  \(unavailability.map { "not available: \($0)" } ?? "available")\n"
    text += "  operations: \(operations.joined(separator: ", "))\n"
    var traits: [String] = []
    traits.append(
      engine.isAsynchronous ? "up to \(EngineOptions.maximumIodepth) requests in flight per worker" : "one request at a time per worker")
    if !engine.needsTargets { traits.append("moves no data") }
    if engine.needsTargets { traits.append(engine.capabilities.randomOffsets ? "random offsets" : "a stream, without offsets") }
    if engine.capabilities.lastingTarget { traits.append("what was written can be read back") }
    text += "  \(traits.joined(separator: "; "))\n"
    let features = unavailability == nil ? engine.features() : []
    if !features.isEmpty { text += "  this kernel: \(features.joined(separator: ", "))\n" }
    return text
  }
}
