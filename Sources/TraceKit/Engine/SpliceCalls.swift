import CTrace
import Glibc

/// The system calls of the splice engine, with a seam: what they answer can be forced, so that every way out of a failure can be
/// tested whatever the kernel does.
struct SpliceCalls {
  enum Call: Sendable { case fileToPipe, pipeToFile, memoryToPipe, pipeToMemory, readPipe }

  /// An answer in place of a call's own.
  struct Forced: Sendable {
    var call: Call
    /// Calls of this kind that pass before.
    var after = 0
    /// How often it is given.
    var times = 1
    /// A negative errno; otherwise the most bytes that the call moves.
    var answer: Int64
  }

  private var forced: [Forced] = []
  private var isForced = false

  init() {}

  init(forced: [Forced]) {
    self.forced = forced
    isForced = !forced.isEmpty
  }

  /// splice(2) from a file at `offset`, which moves on.
  @inline(__always)
  mutating func fileToPipe(_ file: Int32, _ offset: inout Int64, _ pipe: Int32, _ length: Int) -> Int64 {
    var length = length
    if isForced, let answer = force(.fileToPipe, &length) { return answer }
    return ctrace_splice(file, &offset, pipe, nil, length)
  }

  /// splice(2) to a file at `offset`, which moves on.
  @inline(__always)
  mutating func pipeToFile(_ pipe: Int32, _ file: Int32, _ offset: inout Int64, _ length: Int) -> Int64 {
    var length = length
    if isForced, let answer = force(.pipeToFile, &length) { return answer }
    return ctrace_splice(pipe, nil, file, &offset, length)
  }

  /// vmsplice(2) on the pipe's write end.
  @inline(__always)
  mutating func memoryToPipe(_ memory: UnsafeMutableRawPointer, _ pipe: Int32, _ length: Int) -> Int64 {
    var length = length
    if isForced, let answer = force(.memoryToPipe, &length) { return answer }
    return ctrace_vmsplice(pipe, memory, length)
  }

  /// vmsplice(2) on the pipe's read end.
  @inline(__always)
  mutating func pipeToMemory(_ pipe: Int32, _ memory: UnsafeMutableRawPointer, _ length: Int) -> Int64 {
    var length = length
    if isForced, let answer = force(.pipeToMemory, &length) { return answer }
    return ctrace_vmsplice(pipe, memory, length)
  }

  /// read(2) from the pipe.
  @inline(__always)
  mutating func readPipe(_ pipe: Int32, _ memory: UnsafeMutableRawPointer, _ length: Int) -> Int64 {
    var length = length
    if isForced, let answer = force(.readPipe, &length) { return answer }
    let count = read(pipe, memory, length)
    return count < 0 ? -Int64(errno) : Int64(count)
  }

  /// The answer that is forced on this call; nil when it is to be made, with `length` cut as asked.
  @inline(never)
  private mutating func force(_ call: Call, _ length: inout Int) -> Int64? {
    for i in forced.indices where forced[i].call == call && forced[i].times > 0 {
      if forced[i].after > 0 {
        forced[i].after -= 1
        return nil
      }
      forced[i].times -= 1
      if forced[i].answer <= 0 { return forced[i].answer }
      length = min(length, Int(forced[i].answer))
      return nil
    }
    return nil
  }
}
