/// Writes programs for the kernel's BPF machine, an instruction at a time.
///
/// Registers and instructions are those of Documentation/bpf/standardization/instruction-set.rst in the kernel's source: a program
/// begins with its context in r1; r0 is a result, a call takes its arguments in r1 to r5 and loses what was there, r6 to r9 stay.
struct BPFAssembler {
  enum Register: UInt64 {
    case r0, r1, r2, r3, r4, r5, r6, r7, r8, r9
    /// The end of the stack, of which 512 bytes below are the program's.
    case r10
  }
  enum Width: UInt64 {
    case byte = 0x10
    case half = 0x08
    case word = 0x00
    case double = 0x18
  }
  enum Arithmetic: UInt64 {
    case add = 0x00
    case subtract = 0x10
    case and = 0x50
    case shiftLeft = 0x60
    case shiftRight = 0x70
    case move = 0xB0
  }
  /// Compares unsigned values.
  enum Condition: UInt64 {
    case equal = 0x10
    case greater = 0x20
    case greaterOrEqual = 0x30
    case notEqual = 0x50
    case lessOrEqual = 0xB0
    /// Some of the bits are set.
    case anySet = 0x40
  }
  /// Numbers of enum bpf_func_id in linux/bpf.h.
  enum Helper: Int32 {
    case nanoseconds = 5
    case processor = 8
    case readUser = 112
    case readUserString = 114
    case currentTask = 158
  }
  /// A place that jumps lead to.
  struct Label: Hashable {
    fileprivate var number: Int
  }
  private var instructions: [UInt64] = []
  private var jumps: [(instruction: Int, label: Label)] = []
  private var places: [Label: Int] = [:]
  private var labelCount = 0

  private mutating func emit(
    _ code: UInt64, _ target: Register = .r0, _ source: UInt64 = 0, offset: Int16 = 0, _ immediate: Int32 = 0
  ) {
    instructions.append(
      code | target.rawValue << 8 | source << 12 | UInt64(UInt16(bitPattern: offset)) << 16 | UInt64(UInt32(bitPattern: immediate)) << 32)
  }

  // MARK: Arithmetic, 64 bits

  mutating func apply(_ operation: Arithmetic, _ target: Register, _ source: Register) {
    emit(0x0F | operation.rawValue, target, source.rawValue)
  }

  mutating func apply(_ operation: Arithmetic, _ target: Register, _ value: Int32) { emit(0x07 | operation.rawValue, target, 0, value) }

  // MARK: Memory

  mutating func load(_ width: Width, _ target: Register, from base: Register, _ offset: Int16) {
    emit(0x61 | width.rawValue, target, base.rawValue, offset: offset)
  }

  mutating func store(_ width: Width, to base: Register, _ offset: Int16, _ source: Register) {
    emit(0x63 | width.rawValue, base, source.rawValue, offset: offset)
  }

  /// Adds to a double word in memory, as one step to all CPUs.
  mutating func addAtomically(to base: Register, _ offset: Int16, _ source: Register) {
    emit(0xDB, base, source.rawValue, offset: offset)
  }

  /// The address of a byte in the one value of a map.
  mutating func address(_ target: Register, ofMap descriptor: Int32, _ offsetBytes: UInt32) {
    emit(0x18, target, 2, descriptor)
    instructions.append(UInt64(offsetBytes) << 32)
  }

  // MARK: Control

  mutating func call(_ helper: Helper) { emit(0x85, .r0, 0, helper.rawValue) }

  /// Calls a function of the kernel by its number in the kernel's types.
  mutating func call(kernelFunction number: UInt32) { emit(0x85, .r0, 2, Int32(bitPattern: number)) }

  mutating func makeLabel() -> Label {
    labelCount += 1
    return Label(number: labelCount)
  }

  mutating func jump(_ label: Label, if register: Register, _ condition: Condition, _ value: Int32) {
    jumps.append((instructions.count, label))
    emit(0x05 | condition.rawValue, register, 0, value)
  }

  mutating func jump(_ label: Label, if register: Register, _ condition: Condition, _ other: Register) {
    jumps.append((instructions.count, label))
    emit(0x0D | condition.rawValue, register, other.rawValue)
  }

  mutating func jump(_ label: Label) {
    jumps.append((instructions.count, label))
    emit(0x05)
  }

  mutating func place(_ label: Label) { places[label] = instructions.count }

  /// Ends the program.
  mutating func finish() {
    apply(.move, .r0, 0)
    emit(0x95)
  }

  /// The instructions, with the distances of their jumps.
  var program: [UInt64] {
    var finished = instructions
    for (instruction, label) in jumps {
      guard let place = places[label] else { preconditionFailure("a jump leads nowhere") }
      finished[instruction] |= UInt64(UInt16(bitPattern: Int16(place - instruction - 1))) << 16
    }
    return finished
  }
}
