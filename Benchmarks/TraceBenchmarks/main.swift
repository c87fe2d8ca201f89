// Speeds and sizes of the trace's codec, on one core.
//
//   TraceBenchmarks [FILE.vscsi]
//
// Prints one line per figure with its target; nothing is asserted here. Times are CPU times of this process, so that a
// busy machine disturbs them little.
import CTrace
import Glibc
import TraceKit

let folder = "/tmp/trace-benchmarks-\(getpid())"
mkdir(folder, 0o700)

/// Runs `body` a few times and gives the shortest CPU time in seconds.
func seconds(_ runs: Int = 5, _ body: () throws -> Void) rethrows -> Double {
  var best = Double.infinity
  for _ in 0..<runs {
    let begin = ctrace_process_cpu_ns()
    try body()
    best = min(best, Double(ctrace_process_cpu_ns() - begin) / 1e9)
  }
  return best
}

/// The requests of an imported trace, `times` over, each copy later by the whole span.
func load(_ path: String, times: Int) throws -> [TraceEvent] {
  let reader = try TraceReader(path: path)
  let batch = EventBatch(capacity: 4096)
  var events: [TraceEvent] = []
  while try reader.next(into: batch) { events += batch.buffer }
  let span = (events.last?.startNanoseconds ?? 0) + 1000
  return (0..<times).flatMap { number in
    events.map { event in
      var copy = event
      copy.startNanoseconds += Int64(number) * span
      return copy
    }
  }
}

/// Random 4 KiB reads of a 4 GiB file from 4 threads, with latencies in nanoseconds and results, as a recorder sees them of
/// a fast device: each thread's next request starts a little after its last one ended.
func randomReads(_ count: Int) -> [TraceEvent] {
  var state: UInt64 = 1
  func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
  var free: [Int64] = [0, 1000, 2000, 3000]
  return (0..<count).map { _ in
    let thread = free.indices.min { free[$0] < free[$1] }!
    let start = free[thread]
    // Exponential above a floor, as a device's service times are.
    let latency = 8_000 + Int64(-log(Double(next() >> 11) / 0x1p53 + 1e-9) * 2_500)
    free[thread] = start + latency + 80 + Int64(next() % 64)
    return TraceEvent(
      startNanoseconds: start, operation: .read, file: 0, offsetBytes: (next() % (1 << 20)) * 4096, sizeBytes: 4096,
      latencyNanoseconds: latency, result: 4096, processID: 100, threadID: Int32(100 + thread))
  }
}

func write(_ events: [TraceEvent], to path: String, level: Int32) throws -> UInt64 {
  var options = TraceWriter.Options()
  options.overwrite = true
  options.compressionLevel = level
  let writer = try TraceWriter(path: path, metadata: TraceMetadata(source: "generated"), options: options)
  _ = writer.addFile(TraceFile(path: Array("file".utf8), kind: .regular))
  for event in events { try writer.append(event) }
  try writer.finish()
  return writer.sizeBytes
}

func report(_ name: String, _ value: String, _ target: String) {
  let padded = name + String(repeating: " ", count: max(1, 44 - name.utf8.count))
  print("\(padded)\(value)\(target.isEmpty ? "" : "   (target \(target))")")
}

func measure(_ name: String, _ events: [TraceEvent], bytesTarget: String) throws {
  let path = "\(folder)/\(name)"
  var size: UInt64 = 0
  let level = TraceWriter.defaultCompressionLevel
  let encode = try seconds { size = try write(events, to: path, level: level) }
  let batch = EventBatch(capacity: 1024)
  var sum: Int64 = 0
  let decode = try seconds {
    let reader = try TraceReader(path: path)
    while try reader.next(into: batch) { sum &+= batch.events[0].startNanoseconds }
  }
  let count = Double(events.count)
  report("\(name): bytes per event, level \(level)", Decimal.text(Double(size) / count, digits: 3), bytesTarget)
  report("\(name): encode, M events/s", Decimal.text(count / encode / 1e6, digits: 2), "≥ 3")
  report("\(name): decode, M events/s", Decimal.text(count / decode / 1e6, digits: 2), "≥ 12")
}

func levels(_ name: String, _ events: [TraceEvent]) throws {
  for level in 1...9 as ClosedRange<Int32> {
    var size: UInt64 = 0
    let time = try seconds(2) { size = try write(events, to: "\(folder)/level", level: level) }
    let count = Double(events.count)
    report(
      "\(name): level \(level)",
      "\(Decimal.text(Double(size) / count, digits: 3)) bytes, encode \(Decimal.text(count / time / 1e6, digits: 2)) M/s", "")
  }
}

do {
  let random = randomReads(1_000_000)
  try measure("random-read", random, bytesTarget: "≤ 7.1")
  if CommandLine.arguments.contains("--levels") { try levels("random-read", random) }
  if let input = CommandLine.arguments.dropFirst().first(where: { !$0.hasPrefix("--") }) {
    let report = try TraceImport.run(inputs: [input], output: "\(folder)/imported")
    let each = Decimal.text(Double(report.traceBytes) / Double(report.requests), digits: 3)
    print(
      "import: \(report.requests) requests, \(each) bytes each   (target ≤ 3.3)"
    )
    let events = try load("\(folder)/imported", times: 10)
    try measure("cloudphysics-x10", events, bytesTarget: "≤ 3.3")
    if CommandLine.arguments.contains("--levels") {
      try levels("cloudphysics", try load("\(folder)/imported", times: 1))
    }
  }
} catch {
  print("\(error)")
}
for name in ["random-read", "imported", "cloudphysics-x10", "level"] { unlink("\(folder)/\(name)") }
rmdir(folder)
