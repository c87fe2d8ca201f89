import Foundation
import Testing

@testable import TraceKit

/// Types as the kernel's format has them (Documentation/bpf/btf.rst), built entry by entry.
private struct TypesBuilder {
  private var entries: [UInt8] = []
  private var names: [UInt8] = [0]

  private mutating func name(_ text: String) -> UInt32 {
    if text.isEmpty { return 0 }
    let place = names.count
    names += Array(text.utf8) + [0]
    return UInt32(place)
  }

  mutating func add(kind: UInt32, _ text: String, count: Int = 0, flag: Bool = false, size: UInt32 = 0, extra: [UInt32] = []) {
    for word in [name(text), kind << 24 | UInt32(count) | (flag ? 1 << 31 : 0), size] + extra { entries.appendLittleEndian(word) }
  }

  mutating func structure(_ text: String, flag: Bool = false, _ members: [(String, type: UInt32, position: UInt32)]) {
    let extra = members.flatMap { [name($0.0), $0.type, $0.position] }
    add(kind: 4, text, count: members.count, flag: flag, size: 64, extra: extra)
  }

  var bytes: [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendLittleEndian(UInt32(0x0001_EB9F))
    for word in [24, 0, entries.count, entries.count, names.count] { bytes.appendLittleEndian(UInt32(word)) }
    return bytes + entries + names
  }
}

@Suite struct KernelTypesTests {
  private static let sample: [UInt8] = {
    var builder = TypesBuilder()
    builder.add(kind: 1, "int", size: 4, extra: [32])  // 1
    builder.structure("inner", [("a", 1, 0), ("status", 1, 64)])  // 2
    builder.add(kind: 8, "inner_t", size: 2)  // 3: a name for 2
    builder.structure("", [("hidden", 1, 96)])  // 4
    builder.structure("outer", [("first", 1, 0), ("information", 3, 128), ("", 4, 256), ("pid", 1, 4096)])  // 5
    builder.add(kind: 12, "pid", size: 1)  // 6: a function of a member's name
    builder.structure("flagged", flag: true, [("bits", 1, 3 << 24 | 9), ("whole", 1, 24)])  // 7
    return builder.bytes
  }()

  @Test func structuresFunctionsAndMembersAreFound() throws {
    let types = try KernelTypes(Self.sample, path: "sample")
    #expect(try types.number(.structure, "outer") == 5 && types.number(.structure, "inner") == 2)
    #expect(try types.number(.function, "pid") == 6)
    #expect(try types.offset(of: ["pid"], in: 5) == 512)
    // Through a name for a type, and into a structure without a name.
    #expect(try types.offset(of: ["information", "status"], in: 5) == 16 + 8)
    #expect(try types.offset(of: ["hidden"], in: 5) == 32 + 12)
    #expect(try types.offset(of: ["whole"], in: 7) == 3)
  }

  @Test func whatIsNotThereIsSaid() throws {
    let types = try KernelTypes(Self.sample, path: "sample")
    #expect(throws: TraceError.self) { try types.number(.structure, "pid") }
    #expect(throws: TraceError.self) { try types.number(.structure, "oute") }
    #expect(throws: TraceError.self) { try types.offset(of: ["nothing"], in: 5) }
    #expect(throws: TraceError.self) { try types.offset(of: ["pid", "nothing"], in: 5) }
    // A bit field begins at no byte.
    #expect(throws: TraceError.self) { try types.offset(of: ["bits"], in: 7) }
  }

  @Test func damagedDescriptionsAreRefusedOrRead() {
    var generator = SeededGenerator(seed: 7)
    for length in 0..<Self.sample.count { _ = try? KernelTypes(Array(Self.sample[0..<length]), path: "cut") }
    for _ in 0..<20_000 {
      var bytes = Self.sample
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      guard let types = try? KernelTypes(bytes, path: "damaged") else { continue }
      for name in ["outer", "inner", "flagged"] {
        guard let structure = try? types.number(.structure, name) else { continue }
        for member in [["pid"], ["information", "status"], ["hidden"], ["nothing"]] { _ = try? types.offset(of: member, in: structure) }
      }
    }
  }

  @Test(.enabled(if: access(KernelTypes.path, R_OK) == 0, "this kernel does not describe its types"))
  func theRunningKernelsTypesAreRead() throws {
    let types = try KernelTypes()
    let task = try types.number(.structure, "task_struct")
    let (pid, group) = (try types.offset(of: ["pid"], in: task), try types.offset(of: ["tgid"], in: task))
    #expect(pid > 0 && group == pid + 4)
    // asm/ptrace.h gives these to every program.
    #if arch(x86_64)
      let registers = try types.number(.structure, "pt_regs")
      #expect(try types.offset(of: ["orig_ax"], in: registers) == 120 && types.offset(of: ["ax"], in: registers) == 80)
    #endif
  }
}
