import Foundation
import Testing
import TraceKit

/// Requests that complete later: io_uring, libaio, POSIX AIO.
@Suite(.serialized, .enabled(if: installed("cc") != nil, "no C compiler"))
struct RecordRequestTests {
  let folder: TemporaryFolder
  var output: String { folder / "trace.iotrace" }

  init() throws { folder = try TemporaryFolder() }

  private static let headers = """
    #include <aio.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <sys/syscall.h>
    #include <sys/uio.h>
    #include <unistd.h>

    """

  private func recorded(
    _ source: String, flags: [String] = [], arguments: [String] = [], expecting status: Int32 = 0
  ) throws -> (trace: RecordedTrace, summary: String) {
    let program = try compileC(Self.headers + source, in: folder, flags: flags)
    let result = try record([program] + arguments, to: output, options: ["--force"], in: folder.path)
    try #require(result.status == status, "\(result.status) \(result.stderr)")
    return (try RecordedTrace(output), result.stderr)
  }

  /// Whether this kernel and its settings give rings to the test.
  private static let hasRings: Bool = {
    let folder = try? TemporaryFolder()
    let source = """
      #include <liburing.h>
      int main() { struct io_uring ring; return io_uring_queue_init(4, &ring, 0) != 0; }
      """
    guard let folder, let program = try? compileC(source, in: folder, flags: ["-luring"]) else { return false }
    return (try? run(program).status) == 0
  }()

  @Test(.enabled(if: hasRings, "no io_uring here, or no liburing"))
  func requestsOfLiburingAreEventsWithTheirCompletions() throws {
    let (trace, _) = try recorded(
      """
      #include <liburing.h>
      int main() {
        struct io_uring ring;
        struct io_uring_cqe *c;
        static char b[32][4096];
        unsigned head, n;
        if (io_uring_queue_init(32, &ring, 0)) return 1;
        int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
        for (int round = 0; round < 40; round++) {
          for (int i = 0; i < 32; i++) {
            struct io_uring_sqe *s = io_uring_get_sqe(&ring);
            long at = (round / 2 * 32 + i) * 4096L;
            if (round % 2 == 0) io_uring_prep_write(s, fd, b[i], 4096, at);
            else io_uring_prep_read(s, fd, b[i], 4096, at);
            s->user_data = i;
          }
          if (round % 3 == 0) { io_uring_submit(&ring); io_uring_wait_cqe_nr(&ring, &c, 32); }
          else io_uring_submit_and_wait(&ring, 32);
          n = 0;
          io_uring_for_each_cqe(&ring, head, c) { if (c->res != 4096) return 2; n++; }
          io_uring_cq_advance(&ring, n);
          if (n != 32) return 3;
        }
        struct iovec v[2] = {{b[0], 100}, {b[1], 200}};
        io_uring_register_files(&ring, &fd, 1);
        io_uring_register_buffers(&ring, v, 2);
        struct io_uring_sqe *s = io_uring_get_sqe(&ring);
        io_uring_prep_readv(s, 0, v, 2, 8192); s->flags |= IOSQE_FIXED_FILE; s->user_data = 1;
        s = io_uring_get_sqe(&ring);
        io_uring_prep_write_fixed(s, 0, b[0], 90, 7, 0); s->flags |= IOSQE_FIXED_FILE; s->user_data = 2;
        s = io_uring_get_sqe(&ring);
        io_uring_prep_fsync(s, fd, IORING_FSYNC_DATASYNC); s->user_data = 3;
        s = io_uring_get_sqe(&ring);
        io_uring_prep_nop(s); s->user_data = 4;
        s = io_uring_get_sqe(&ring);
        io_uring_prep_read(s, -1, b[0], 10, 0); s->user_data = 5;
        if (io_uring_submit(&ring) != 5) return 4;
        for (int i = 0; i < 5; i++) { io_uring_wait_cqe(&ring, &c); io_uring_cqe_seen(&ring, c); }
        s = io_uring_get_sqe(&ring);
        io_uring_prep_openat(s, AT_FDCWD, "made", O_RDWR | O_CREAT, 0600);
        io_uring_submit_and_wait(&ring, 1); io_uring_wait_cqe(&ring, &c);
        int made = c->res;
        io_uring_cqe_seen(&ring, c);
        s = io_uring_get_sqe(&ring);
        io_uring_prep_write(s, made, "hello", 5, 3);
        io_uring_submit_and_wait(&ring, 1); io_uring_wait_cqe(&ring, &c); io_uring_cqe_seen(&ring, c);
        s = io_uring_get_sqe(&ring);
        io_uring_prep_close(s, made);
        io_uring_submit_and_wait(&ring, 1); io_uring_wait_cqe(&ring, &c); io_uring_cqe_seen(&ring, c);
        io_uring_queue_exit(&ring);
        return 0;
      }
      """, flags: ["-luring"])
    let asynchronous = trace.events.filter { $0.flags.contains(.asynchronous) }
    #expect(asynchronous.allSatisfy { $0.latencyIfKnown != nil && $0.resultIfKnown != nil })
    #expect(asynchronous.count == 40 * 32 + 5 + 3)
    for (operation, more) in [(TraceOperation.read, 1), (.write, 1)] {
      let events = trace.events(operation, "/data").filter { $0.flags.contains(.asynchronous) }
      #expect(events.count == 20 * 32 + more)
      #expect(Set(events.filter { $0.sizeBytes == 4096 }.map(\.offsetBytes)) == Set((0..<640).map { UInt64($0 * 4096) }))
    }
    #expect(trace.events(.read, "/data").contains { $0.offsetBytes == 8192 && $0.result == 300 && $0.flags.contains(.vectored) })
    #expect(trace.events(.write, "/data").contains { $0.offsetBytes == 7 && $0.result == 90 })
    #expect(trace.events(.fdatasync, "/data").count == 1 && trace.events(.other).count == 1)
    #expect(asynchronous.contains { $0.operation == .read && $0.result == -Int64(EBADF) && $0.fileIfKnown == nil })
    #expect(trace.events(.open, "/made").count == 1 && trace.events(.close, "/made").count == 1)
    #expect(trace.events(.write, "/made").map(\.offsetBytes) == [3])
    #expect(trace.totals?.sorted == true && trace.totals?.lossless == true)
  }

  private static let ownRing = """
    #include <linux/io_uring.h>
    static long instruction(long number, long a, long b, long c, long d) {
    #if defined(__x86_64__)
      long r;
      register long r10 __asm__("r10") = d, r8 __asm__("r8") = 0, r9 __asm__("r9") = 0;
      __asm__ volatile("syscall" : "=a"(r) : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
      return r;
    #else
      register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c,
        x3 __asm__("x3") = d, x4 __asm__("x4") = 0, x5 __asm__("x5") = 0;
      __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
      return x0;
    #endif
    }
    int main(int argc, char **argv) {
      struct io_uring_params p = {0};
      int direct = argc > 1 && !strcmp(argv[1], "direct");
      if (argc > 1 && !strcmp(argv[1], "polled")) { p.flags = IORING_SETUP_SQPOLL; p.sq_thread_idle = 2000; }
      int ring = (int)syscall(SYS_io_uring_setup, 32, &p);
      if (ring < 0) return 1;
      size_t bytes = p.cq_off.cqes + p.cq_entries * 16 + p.sq_off.array + p.sq_entries * 4;
      char *q = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
      struct io_uring_sqe *sqes = mmap(0, p.sq_entries * 64, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
      unsigned *tail = (unsigned *)(q + p.sq_off.tail), *array = (unsigned *)(q + p.sq_off.array);
      unsigned *flags = (unsigned *)(q + p.sq_off.flags);
      unsigned *done = (unsigned *)(q + p.cq_off.tail), *taken = (unsigned *)(q + p.cq_off.head);
      int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
      static char b[512];
      for (int r = 0; r < 50; r++) {
        for (int i = 0; i < 8; i++) {
          // Not in order: the array counts.
          unsigned at = *tail & (p.sq_entries - 1), x = p.sq_entries - 1 - at;
          sqes[x] = (struct io_uring_sqe){
            .opcode = IORING_OP_WRITE, .fd = fd, .addr = (unsigned long)b, .len = 512, .off = (r * 8 + i) * 512,
            .user_data = (unsigned)(r * 8 + i)};
          array[at] = x;
          __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
        }
        if (p.flags & IORING_SETUP_SQPOLL) {
          if (__atomic_load_n(flags, __ATOMIC_SEQ_CST) & IORING_SQ_NEED_WAKEUP)
            instruction(SYS_io_uring_enter, ring, 0, 0, IORING_ENTER_SQ_WAKEUP);
          while (__atomic_load_n(done, __ATOMIC_ACQUIRE) - *taken < 8) usleep(50);
        } else if (direct && r % 2) {
          if (instruction(SYS_io_uring_enter, ring, 8, 8, IORING_ENTER_GETEVENTS) != 8) return 2;
        } else if (syscall(SYS_io_uring_enter, ring, 8, 8, IORING_ENTER_GETEVENTS, 0, 8) != 8) {
          return 3;
        }
        __atomic_store_n(taken, *done, __ATOMIC_RELEASE);
      }
      return 0;
    }
    """

  @Test(.enabled(if: hasRings, "no io_uring here"))
  func ringsByNumberAreSeenAndWhatIsSubmittedUnseenIsCounted() throws {
    let (seen, quiet) = try recorded(Self.ownRing)
    #expect(seen.events(.write, "/data").map(\.offsetBytes).sorted() == (0..<400).map { UInt64($0 * 512) })
    #expect(seen.events(.write, "/data").allSatisfy { $0.result == 512 && $0.latencyIfKnown != nil })
    #expect(!quiet.contains("blind spots"))
    let (half, summary) = try recorded(Self.ownRing, arguments: ["direct"])
    #expect(half.events(.write, "/data").count == 200)
    #expect(summary.contains("200 io_uring requests that no call showed") && summary.contains("--route syscalls"), "\(summary)")
    let (none, polled) = try recorded(Self.ownRing, arguments: ["polled"])
    #expect(none.events(.write, "/data").isEmpty)
    #expect(polled.contains("400 io_uring requests that no call showed") && polled.contains("1 io_uring rings that a kernel thread polls"))
  }

  @Test func requestsOfLibaioAreEventsWithTheirCompletions() throws {
    let (trace, _) = try recorded(
      """
      #include <libaio.h>
      int main() {
        io_context_t context = 0;
        static char b[16][4096] __attribute__((aligned(4096)));
        struct iocb blocks[16], *list[16];
        struct io_event events[16];
        if (io_setup(16, &context)) return 1;
        int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
        for (int round = 0; round < 20; round++) {
          for (int i = 0; i < 16; i++) {
            if (round % 2 == 0) io_prep_pwrite(&blocks[i], fd, b[i], 4096, (round / 2 * 16 + i) * 4096L);
            else io_prep_pread(&blocks[i], fd, b[i], 4096, (round / 2 * 16 + i) * 4096L);
            list[i] = &blocks[i];
          }
          if (io_submit(context, 16, list) != 16) return 2;
          for (int left = 16; left > 0;) {
            int n = round % 3 ? io_getevents(context, 1, left, events, 0) : io_pgetevents(context, 1, left, events, 0, 0);
            for (int i = 0; i < n; i++) if (events[i].res != 4096) return 3;
            left -= n;
          }
        }
        struct iovec v[2] = {{b[0], 10}, {b[1], 20}};
        io_prep_pwritev(&blocks[0], fd, v, 2, 5);
        io_prep_fdsync(&blocks[1], fd);
        io_prep_pread(&blocks[2], -1, b[0], 1, 0);
        // The third is refused: two are on their way.
        if (io_submit(context, 3, list) != 2) return 4;
        for (int left = 2; left > 0;) left -= io_getevents(context, 1, left, events, 0);
        if (io_submit(context, 1, &list[2]) != -EBADF) return 5;
        // By number.
        io_prep_pread(&blocks[3], fd, b[3], 4096, 4096);
        if (syscall(SYS_io_submit, context, 1L, &list[3]) != 1) return 6;
        if (syscall(SYS_io_getevents, context, 1L, 1L, events, 0L) != 1) return 7;
        return io_destroy(context);
      }
      """, flags: ["-laio"])
    let asynchronous = trace.events.filter { $0.flags.contains(.asynchronous) }
    #expect(asynchronous.count == 20 * 16 + 3)
    #expect(asynchronous.allSatisfy { $0.latencyIfKnown != nil && $0.resultIfKnown != nil })
    #expect(
      trace.events(.write, "/data").filter { $0.sizeBytes == 4096 }.map(\.offsetBytes).sorted() == (0..<160).map { UInt64($0 * 4096) })
    #expect(trace.events(.read, "/data").count == 161)
    #expect(trace.events(.write, "/data").contains { $0.offsetBytes == 5 && $0.result == 30 && $0.flags.contains(.vectored) })
    #expect(trace.events(.fdatasync, "/data").count == 1)
  }

  @Test(.enabled(if: installed("strace") != nil, "strace is not installed"))
  func requestsOfPosixAIOAreWhatItsThreadsDo() throws {
    let program = try compileC(
      Self.headers + """
        int main() {
          int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
          static char b[8][4096];
          static struct aiocb a[8];
          struct aiocb *list[8];
          for (int round = 0; round < 10; round++) {
            for (int i = 0; i < 8; i++) {
              a[i].aio_fildes = fd; a[i].aio_buf = b[i]; a[i].aio_nbytes = 4096 - i; a[i].aio_offset = (round * 8 + i) * 4096;
              if (aio_write(&a[i])) return 1;
            }
            for (int i = 0; i < 8; i++) {
              const struct aiocb *one[1] = {&a[i]};
              while (aio_error(&a[i]) == EINPROGRESS) aio_suspend(one, 1, 0);
              if (aio_return(&a[i]) != 4096 - i) return 2;
            }
          }
          for (int i = 0; i < 8; i++) { list[i] = &a[i]; a[i].aio_lio_opcode = LIO_READ; }
          if (lio_listio(LIO_WAIT, list, 8, 0)) return 3;
          for (int i = 0; i < 8; i++) if (aio_return(&a[i]) != 4096 - i) return 4;
          const struct aiocb *one[1] = {&a[0]};
          aio_fsync(O_SYNC, &a[0]);
          while (aio_error(&a[0]) == EINPROGRESS) aio_suspend(one, 1, 0);
          return (int)aio_return(&a[0]);
        }
        """, in: folder)
    let log = folder / "strace.log"
    let result = try run(
      "strace",
      ["-f", "-o", log, "-e", "trace=pread64,pwrite64", traceRecord, "run", "--no-calibration", "--quiet", "-o", output, "--", program],
      in: folder.path)
    try #require(result.status == 0, "\(result.stderr)")
    let trace = try RecordedTrace(output)
    // Of the system calls on the file, all of which glibc's threads make: only they move 4,089 to 4,096 bytes.
    var straced: [String] = []
    for line in String(decoding: try Data(contentsOf: URL(fileURLWithPath: log)), as: UTF8.self).split(separator: "\n") {
      guard let call = line.range(of: #"p(read|write)64\(.*, (40[89]\d), (\d+)\)"#, options: .regularExpression) else { continue }
      let numbers = line[call].dropLast().split(separator: ", ").suffix(2)
      straced.append("\(line[call].hasPrefix("pread") ? "read" : "write") \(numbers.joined(separator: " "))")
    }
    let events = trace.events.filter { $0.operation == .read || $0.operation == .write }
    #expect(events.count == 88 && events.allSatisfy { $0.flags.contains(.asynchronous) && $0.latencyIfKnown != nil })
    let recorded = events.map { "\($0.operation.name) \($0.result) \($0.offsetBytes)" }
    // Calls that strace shows in two halves are compared by their first, which has no result but all arguments.
    #expect(recorded.sorted() == straced.sorted())
    #expect(trace.events(.fsync, "/data").count == 1)
  }

  @Test(.enabled(if: installed("fio") != nil, "fio is not installed"), arguments: ["libaio", "io_uring", "posixaio"])
  func fioCountsWhatWasRecorded(engine: String) throws {
    let counts = folder / "counts.json"
    let result = try record(
      [
        "fio", "--name=j", "--ioengine=\(engine)", "--iodepth=16", "--rw=randrw", "--bs=4k", "--size=4m", "--filename=fio.data",
        "--output-format=json", "--output=\(counts)",
      ], to: output, options: ["--force"], in: folder.path)
    try #require(result.status == 0, "\(result.stderr)")
    struct Counts: Decodable {
      struct Job: Decodable {
        struct Direction: Decodable { var total_ios: UInt64 }
        var read: Direction
        var write: Direction
      }
      var jobs: [Job]
    }
    let job = try #require(try JSONDecoder().decode(Counts.self, from: Data(contentsOf: URL(fileURLWithPath: counts))).jobs.first)
    let trace = try RecordedTrace(output)
    let requests = trace.events.filter { $0.flags.contains(.asynchronous) }
    if engine == "io_uring" {
      // fio has the system call's instruction in its own code on some machines; then all its requests are counted as unseen.
      let unseen = trace.metadata.ledger?.blindSpots.first { $0.name.hasPrefix("io_uring requests") }?.count ?? 0
      #expect(UInt64(requests.count) + unseen == job.read.total_ios + job.write.total_ios)
    } else {
      #expect(UInt64(requests.filter { $0.operation == .read }.count) == job.read.total_ios)
      #expect(UInt64(requests.filter { $0.operation == .write }.count) == job.write.total_ios)
      #expect(requests.allSatisfy { $0.latencyIfKnown != nil && $0.result == 4096 })
    }
  }
}
