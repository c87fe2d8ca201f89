import CTrace
import Foundation

@testable import TraceKit

/// A file of random bytes, opened for an engine, and memory for its requests.
final class EngineFile {
  let descriptor: Int32
  let path: String
  private let region: UnsafeMutableRawBufferPointer

  init(_ path: String, bytes: Int, flags: Int32 = O_RDWR, largestBytes: Int = 1 << 21, seed: UInt64 = 1) {
    self.path = path
    var random = SplitMix(seed: seed)
    var content = Data(count: bytes)
    content.withUnsafeMutableBytes { memory in
      for i in 0..<memory.count / 8 { memory.storeBytes(of: random.next(), toByteOffset: i * 8, as: UInt64.self) }
    }
    _ = FileManager.default.createFile(atPath: path, contents: content)
    descriptor = open(path, flags | O_CLOEXEC)
    region = .allocate(byteCount: largestBytes + 4096, alignment: 4096)
  }

  deinit {
    close(descriptor)
    region.deallocate()
  }

  var memory: UnsafeMutableRawPointer { region.baseAddress! }
  var content: Data { FileManager.default.contents(atPath: path)! }

  func operation(_ kind: IOOperation.Kind, _ offset: Int, _ length: Int, shift: Int = 0, flags: Int32 = 0) -> IOOperation {
    IOOperation(
      kind: kind, isBlockDevice: false, fileDescriptor: descriptor, fileIndex: 0, flags: flags, buffer: memory + shift,
      offsetBytes: Int64(offset), lengthBytes: length)
  }

  func configuration(_ options: EngineOptions = EngineOptions(), largestBytes: Int = 65536) -> EngineConfiguration {
    EngineConfiguration(options: options, iodepth: 1, slots: 1, descriptors: [descriptor, -1], largestRequestBytes: largestBytes)
  }

  func fill(_ bytes: Data, shift: Int = 0) { bytes.withUnsafeBytes { _ = memcpy(memory + shift, $0.baseAddress!, $0.count) } }
  func bytes(_ count: Int, shift: Int = 0) -> Data { Data(bytes: memory + shift, count: max(0, count)) }
}

extension SplitMix {
  mutating func data(_ count: Int) -> Data { Data((0..<count).map { _ in UInt8(truncatingIfNeeded: next() >> 33) }) }
}
