import CTrace
import Foundation
import Testing

@testable import TraceKit

/// The engines that the conformance suite runs: every registered one that reads and writes files. Those that talk to peers are
/// compared with them in `NetCommandTests`.
///
/// One that this kernel cannot run is left out, and `ConformanceTests.enginesThatAreLeftOut` says why.
enum ConformanceEngines {
  static let registered = EngineRegistry.entries.filter { $0.worksOnFiles && $0.capabilities.lastingTarget }
  static let runnable = registered.filter { $0.unavailability() == nil }.map(\.name)
}

/// What a replay did, in a form in which two engines must agree.
struct ReplayOutcome: Equatable {
  struct Count: Equatable {
    var requests: UInt64
    var bytes: UInt64
    var errors: UInt64
    var shortTransfers: UInt64
  }
  var operations: [String: Count]
  var notReplayed: [String: UInt64]
  /// Requests by error, as `read: EIO` would be.
  var errors: [String: UInt64]
  /// Digest of the names and contents of the target files; nil when there were none.
  var contents: UInt64?

  init(_ report: ReplayReport, folder: String?) {
    operations = Dictionary(
      uniqueKeysWithValues: report.operations.map {
        ($0.operation, Count(requests: $0.requests, bytes: $0.bytes, errors: $0.errors, shortTransfers: $0.shortTransfers))
      })
    notReplayed = Dictionary(uniqueKeysWithValues: report.fidelity.notReplayed.map { ($0.reason, $0.requests) })
    errors = Dictionary(uniqueKeysWithValues: report.errors.map { ("\($0.operation) \($0.errno)", $0.requests) })
    contents = folder.map(Self.digest)
  }

  /// FNV-1a over names and contents; holes are skipped, so that files may be long and sparse.
  static func digest(_ folder: String) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    func add(_ bytes: UnsafeRawBufferPointer) {
      var i = 0
      while i + 8 <= bytes.count {
        hash = (hash ^ bytes.loadUnaligned(fromByteOffset: i, as: UInt64.self)) &* 0x100_0000_01B3
        i += 8
      }
      while i < bytes.count {
        hash = (hash ^ UInt64(bytes[i])) &* 0x100_0000_01B3
        i += 1
      }
    }
    func add(_ text: String) { Array(text.utf8).withUnsafeBytes { add($0) } }
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    defer { memory.deallocate() }
    for name in (FileManager.default.enumerator(atPath: folder)?.allObjects as? [String] ?? []).sorted() {
      let descriptor = open("\(folder)/\(name)", O_RDONLY | O_CLOEXEC)
      defer { close(descriptor) }
      var status = stat()
      guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
      add("\(name) \(status.st_size) ")
      // Zeros count the same as holes: engines may leave either.
      var position = 0
      while position < Int(status.st_size) {
        let data = lseek(descriptor, position, 3)  // SEEK_DATA
        if data < 0 { break }
        position = data / memory.count * memory.count
        let count = pread(descriptor, memory.baseAddress, memory.count, position)
        guard count > 0 else { break }
        let piece = UnsafeRawBufferPointer(rebasing: memory[0..<count])
        if piece.contains(where: { $0 != 0 }) {
          add("\(position) ")
          add(piece)
        }
        position += memory.count
      }
    }
    return hash
  }
}

func conformanceTrace(_ path: String, files: [String], sizes: [UInt64?] = [], events: [TraceEvent]) throws -> String {
  var options = TraceWriter.Options()
  options.overwrite = true
  let writer = try TraceWriter(path: path, metadata: TraceMetadata(source: "generated"), options: options)
  for (i, file) in files.enumerated() {
    _ = writer.addFile(TraceFile(path: Array(file.utf8), kind: .regular, sizeBytes: i < sizes.count ? sizes[i] : nil))
  }
  for event in events { try writer.append(event) }
  try writer.finish()
  return path
}

/// A request of a generated trace; each is recorded as complete before the next begins.
func request(
  _ operation: TraceOperation, _ index: Int, file: UInt32 = 0, offset: UInt64 = 0, size: UInt64 = 0, thread: Int32 = 1,
  gap: Int64 = 6400, latency: Int64 = 640
) -> TraceEvent {
  let isTransfer = operation == .read || operation == .write
  let isWhole = operation == .fsync || operation == .fdatasync || operation == .flush
  return TraceEvent(
    startNanoseconds: Int64(index) * gap, operation: operation, file: file, offsetBytes: isWhole ? TraceEvent.unknownOffset : offset,
    sizeBytes: isWhole || operation == .truncate ? TraceEvent.unknownSize : size, latencyNanoseconds: latency,
    result: isTransfer ? Int64(size) : 0, processID: 1, threadID: thread)
}

struct TestRandom: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// A library for LD_PRELOAD that counts the calls of malloc and its kin, and writes their number to the file $MALLOC_COUNT.
func compileAllocationCounter(in folder: TemporaryFolder) throws -> String {
  try compileC(
    """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <stdio.h>
    #include <stdlib.h>
    extern void *__libc_malloc(size_t);
    extern void *__libc_calloc(size_t, size_t);
    extern void *__libc_realloc(void *, size_t);
    static unsigned long calls;
    void *malloc(size_t n) { __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED); return __libc_malloc(n); }
    void *calloc(size_t n, size_t m) { __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED); return __libc_calloc(n, m); }
    void *realloc(void *p, size_t n) { __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED); return __libc_realloc(p, n); }
    __attribute__((destructor)) static void tell(void) {
      FILE *out = fopen(getenv("MALLOC_COUNT"), "w");
      if (out) { fprintf(out, "%lu", calls); fclose(out); }
    }
    """, in: folder, name: "counter.so", flags: ["-shared", "-fPIC"])
}
