import CTrace
import Foundation
import Testing
import TraceKit

/// `trace-record block` on loop devices of the test's own.
@Suite(
  .serialized, .enabled(if: tracingIsPossible, "tracing needs root and a kernel with tracefs"),
  .enabled(if: installed("losetup") != nil, "losetup is not installed"))
struct BlockTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func record(_ devices: [String], _ output: String) throws -> RunningRecorder {
    try RunningRecorder(["block", "-o", output] + devices)
  }

  /// Every counter of the ledger's coverage is what the kernel counted.
  private func expectEqualCoverage(_ output: String) throws {
    let information = try information(output)
    for counter in ["reads", "read_bytes", "written_bytes", "discards", "flushes"] {
      #expect(try figure(information, "recorded_\(counter)") == figure(information, "kernel_\(counter)"), "\(counter)")
    }
    let (writes, frames) = (try figure(information, "recorded_writes"), try figure(information, "flush_frames"))
    let kernelWrites = try figure(information, "kernel_writes")
    #expect(writes + frames == kernelWrites, "writes: \(writes) and \(frames) frames, by the kernel \(kernelWrites)")
    #expect(try figure(information, "in_flight_at_end") == 0)
  }

  @Test(.enabled(if: installed("fio") != nil, "fio is not installed"))
  func fioAndTheKernelCountTheSame() throws {
    let device = try LoopDevice(bytes: 32 << 20)
    let output = folder / "t.iotrace"
    let recorder = try record([device.path], output)
    let fio = try run(
      "fio",
      [
        "--name=x", "--filename=\(device.path)", "--rw=randrw", "--bsrange=4k-64k", "--direct=1", "--ioengine=libaio", "--iodepth=8",
        "--number_ios=2000", "--size=32m", "--fsync=50", "--output-format=json", "--invalidate=0",
      ])
    #expect(fio.status == 0, "\(fio.stderr)")
    usleep(200_000)
    let result = recorder.stop()
    #expect(result.status == 0, "\(result.stderr)")
    let start = try #require(fio.stdout.firstIndex(of: "{"))
    let json = try JSONSerialization.jsonObject(with: Data(fio.stdout[start...].utf8)) as? [String: Any]
    let job = try #require((json?["jobs"] as? [[String: Any]])?.first)
    let trace = try RecordedTrace(output)
    let direct = trace.events.filter { $0.processID != TraceEvent.unknownID || $0.operation == .flush }
    for (name, operation) in [("read", TraceOperation.read), ("write", .write)] {
      let side = try #require(job[name] as? [String: Any])
      let events = direct.filter { $0.operation == operation }
      // Requests above the device's limit would be split; 64 KiB are below it. udev may look at the device too: reads only.
      let bytes = events.reduce(0) { $0 + Int($1.sizeBytes) }
      #expect(operation == .read ? events.count >= side["total_ios"] as? Int ?? -1 : events.count == side["total_ios"] as? Int, "\(name)")
      #expect(operation == .read ? bytes >= side["io_bytes"] as? Int ?? -1 : bytes == side["io_bytes"] as? Int, "\(name) bytes")
    }
    #expect(trace.files.count == 1 && trace.files[0].kind == .blockDevice && trace.files[0].sizeBytes == 32 << 20)
    #expect(trace.totals?.lossless == true && trace.metadata.source == "block")
    try expectEqualCoverage(output)
    #expect(!tracingInstances().contains { $0.hasPrefix("iotrace-\(recorder.command.processID)") })
  }

  @Test(.enabled(if: installed("mkfs.ext4") != nil, "mkfs.ext4 is not installed"))
  func aFilesystemsRequestsAreSeenWithFlushesDiscardsAndZeroing() throws {
    let device = try LoopDevice(bytes: 64 << 20)
    #expect(try run("mkfs.ext4", ["-q", "-F", device.path]).status == 0)
    let mountPoint = folder / "mnt"
    try FileManager.default.createDirectory(atPath: mountPoint, withIntermediateDirectories: true)
    let output = folder / "t.iotrace"
    let recorder = try record([device.path], output)
    let mounted = try run("mount", [device.path, mountPoint])
    try #require(mounted.status == 0, "\(mounted.stderr)")
    let program = try compileC(
      """
      #include <fcntl.h>
      #include <unistd.h>
      int main(int c, char **v) {
        static char b[65536]; int fd = open(v[1], O_RDWR | O_CREAT, 0600);
        for (int i = 0; i < 40; i++) { pwrite(fd, b, 65536, i * 65536L); fsync(fd); }
        return 0;
      }
      """, in: folder)
    #expect(try run(program, ["\(mountPoint)/data"]).status == 0)
    #expect(try run("umount", [mountPoint]).status == 0)
    #expect(try run("blkdiscard", ["--force", "--offset", "1048576", "--length", "4194304", device.path]).status == 0)
    #expect(try run("blkdiscard", ["--force", "--zeroout", "--offset", "8388608", "--length", "1048576", device.path]).status == 0)
    usleep(200_000)
    let result = recorder.stop()
    #expect(result.status == 0, "\(result.stderr)")
    let trace = try RecordedTrace(output)
    #expect(trace.events(.flush).count >= 40)
    let written = trace.events(.write).reduce(0) { $0 + $1.sizeBytes }
    #expect(written >= 40 * 65536)
    let discarded = trace.events(.discard).reduce(0) { $0 + $1.sizeBytes }
    #expect(discarded == 4 << 20 && trace.events(.discard).first?.offsetBytes == 1 << 20)
    let zeroed = trace.events(.writeZeroes).reduce(0) { $0 + $1.sizeBytes }
    #expect(zeroed == 1 << 20)
    #expect(trace.events.allSatisfy { $0.latencyNanoseconds > 0 && $0.result >= 0 })
    try expectEqualCoverage(output)
  }

  @Test(.enabled(if: installed("sfdisk") != nil, "sfdisk is not installed"))
  func aPartitionIsRecordedFromItsOwnBeginning() throws {
    let device = try LoopDevice(bytes: 32 << 20, options: ["--partscan"])
    let made = try run("sfdisk", ["--quiet", device.path], input: "2048,16384\n20480,16384\n")
    let second = "\(device.path)p2"
    try #require(made.status == 0 && eventually { access(second, F_OK) == 0 }, "\(made.stderr)")
    let output = folder / "t.iotrace"
    let refused = try run(traceRecord, ["block", "-o", output, device.path, second])
    #expect(refused.status == 1 && refused.stderr.contains("name one of them"), "\(refused.stderr)")
    let recorder = try record([second], output)
    for part in ["p1", "p2"] {
      #expect(try run("dd", ["if=/dev/zero", "of=\(device.path)\(part)", "bs=4096", "count=8", "seek=3", "oflag=direct"]).status == 0)
    }
    usleep(200_000)
    #expect(recorder.stop().status == 0)
    let trace = try RecordedTrace(output)
    let offsets = trace.events(.write).map(\.offsetBytes)
    let expected = (3..<11).map { UInt64($0 * 4096) }
    #expect(offsets == expected && trace.files[0].sizeBytes == 16384 * 512)
  }

  @Test func whatIsNoBlockDeviceIsRefused() throws {
    let file = try folder.write("file", "x")
    for path in [file, folder / "missing"] {
      let result = try run(traceRecord, ["block", "-o", folder / "t.iotrace", path])
      #expect(result.status == 1 && result.stderr.contains(path), "\(result.stderr)")
    }
  }
}
