import Foundation

@testable import TraceKit

/// Root of the package.
let packageRoot = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path

/// The folder of golden traces.
let goldenFolder = packageRoot + "/Tests/Golden"

/// The folder of foreign samples: TRACE_SAMPLES, or `../shared/traces` beside the repository.
let samplesFolder = ProcessInfo.processInfo.environment["TRACE_SAMPLES"] ?? packageRoot + "/../shared/traces"

/// True when the sample is there; tests of samples that are not are skipped.
func hasSample(_ name: String) -> Bool { FileManager.default.fileExists(atPath: "\(samplesFolder)/\(name)") }

/// The path of `program` on PATH, or nil.
func programOnPath(_ program: String) -> String? {
  let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin").split(separator: ":")
  return folders.map { "\($0)/\(program)" }.first { FileManager.default.isExecutableFile(atPath: $0) }
}

func bytes(of path: String) -> [UInt8] { [UInt8](FileManager.default.contents(atPath: path) ?? Data()) }

func write(_ bytes: [UInt8], _ path: String) {
  // A new file each time: a filesystem may flush one that is cut to nothing and written again, and tests write many.
  unlink(path)
  let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
  defer { close(descriptor) }
  _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
}

/// A trace of `events` in blocks of `blockEvents`, with `files` rows.
@discardableResult
func writeTrace(
  _ events: [TraceEvent], _ path: String, blockEvents: Int = 100, files: Int = 10, close: Bool = true
) throws -> TraceTotals {
  var options = TraceWriter.Options()
  options.overwrite = true
  options.blockEvents = blockEvents
  let writer = try TraceWriter(path: path, metadata: TraceMetadata(source: "generated"), options: options)
  for i in 0..<files { _ = writer.addFile(TraceFile(path: Array("/data/file \(i), \"quoted\"\u{1b}".utf8), kind: .regular)) }
  for event in events { try writer.append(event) }
  try writer.flush()
  return close ? try writer.finish() : writer.totals
}

/// Places of the blocks of an intact trace, and how long each is with its header.
func blocks(of path: String) throws -> [(offset: Int, length: Int, type: UInt8, count: Int)] {
  let scan = try TraceScanner(file: ReadableFile(path: path)).scan(from: UInt64(TraceFormat.preambleBytes))
  return zip(scan.entries, scan.headers).map {
    (Int($0.offset), Int($1.storedBytes) + TraceFormat.blockHeaderBytes, $1.type, Int($1.count))
  }
}

/// Makes the checksums of the preamble and of the block headers at `offsets` right again after a change.
func repairChecksums(_ bytes: inout [UInt8], at offsets: [Int]) {
  bytes.withUnsafeMutableBytes { buffer in
    let base = buffer.baseAddress!
    if buffer.count >= 32 { base.storeLittleEndian(Checksum.crc32(base, count: 28), at: 28) }
    for offset in offsets where offset + 64 <= buffer.count {
      let stored = Int(UnsafeRawPointer(base).littleEndian(offset + 12, as: UInt32.self))
      if stored <= buffer.count - offset - 64 {
        base.storeLittleEndian(Checksum.crc32(base + offset + 64, count: stored), at: offset + 20)
      }
      base.storeLittleEndian(Checksum.crc32(base + offset, count: 60), at: offset + 60)
    }
  }
}
