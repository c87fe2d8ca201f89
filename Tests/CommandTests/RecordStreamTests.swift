import Foundation
import Testing
import TraceKit

/// stdio under the recorder: what no oracle of system calls tells.
@Suite(.serialized, .enabled(if: installed("cc") != nil, "no C compiler"))
struct RecordStreamTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  @Test func threadsThatShareAStreamAreCountedOnce() throws {
    let program = try compileC(
      """
      #include <pthread.h>
      #include <stdio.h>
      static FILE *log_file;
      static void *work(void *number) {
        for (int i = 0; i < 20000; i++) {
          if (i % 3 == 0) fprintf(log_file, "thread %d line %d\\n", (int)(long)number, i);
          else if (i % 3 == 1) fputs("another line of the log\\n", log_file);
          else fwrite("0123456789\\n", 1, 11, log_file);
        }
        return 0;
      }
      int main() {
        pthread_t threads[4];
        log_file = fopen("log", "w");
        for (long i = 0; i < 4; i++) pthread_create(&threads[i], 0, work, (void *)i);
        for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
        return fclose(log_file);
      }
      """, in: folder)
    try #require(try record([program], to: folder / "t.iotrace", in: folder.path).status == 0)
    let trace = try RecordedTrace(folder / "t.iotrace")
    let size = try #require(try FileManager.default.attributesOfItem(atPath: folder / "log")[.size] as? UInt64)
    let writes = trace.events(.write, "/log")
    #expect(writes.reduce(0) { $0 + UInt64($1.result) } == size)
    #expect(writes.count < 80_000 / 20, "calls that the buffer served are no events")
    var ends: Set<UInt64> = [0]
    for write in writes { ends.insert(write.offsetBytes + UInt64(write.result)) }
    #expect(writes.allSatisfy { ends.contains($0.offsetBytes) }, "each write begins where another ended")
  }

  @Test func aThreadCancelledInsideACallKeepsNoLock() throws {
    let program = try compileC(
      """
      #include <pthread.h>
      #include <stdio.h>
      #include <string.h>
      #include <unistd.h>
      static FILE *writer;
      static void *work(void *unused) {
        char block[65536];
        memset(block, 'x', sizeof block);
        for (;;) fwrite(block, 1, sizeof block, writer);
      }
      int main() {
        int ends[2];
        pthread_t thread;
        if (pipe(ends)) return 1;
        writer = fdopen(ends[1], "w");
        pthread_create(&thread, 0, work, 0);
        usleep(200000);
        pthread_cancel(thread);
        pthread_join(thread, 0);
        return ftrylockfile(writer) == 0 ? (_exit(0), 0) : 3;
      }
      """, in: folder)
    #expect(try record([program], to: folder / "t.iotrace", in: folder.path, timeoutSeconds: 30).status == 0)
  }

  @Test func streamsThatAreNoFilesAreLeftAlone() throws {
    let program = try compileC(
      """
      #include <stdio.h>
      #include <stdlib.h>
      #include <string.h>
      static ssize_t give(void *cookie, char *p, size_t n) { memset(p, 'c', n); return (ssize_t)n; }
      int main() {
        char *text = 0, line[100], memory[64] = "in memory\\nsecond\\n";
        size_t size = 0;
        FILE *f = open_memstream(&text, &size);
        for (int i = 0; i < 5000; i++) fprintf(f, "%d\\n", i);
        fclose(f);
        if (size != 23890) return 1;
        f = fmemopen(memory, sizeof memory, "r+");
        if (!fgets(line, 100, f) || strcmp(line, "in memory\\n")) return 2;
        fclose(f);
        f = fopencookie(0, "r", (cookie_io_functions_t){give, 0, 0, 0});
        if (fread(line, 1, 100, f) != 100 || line[99] != 'c') return 3;
        fclose(f);
        f = tmpfile();
        fputs("temporary", f);
        rewind(f);
        return !fgets(line, 100, f) || strcmp(line, "temporary");
      }
      """, in: folder)
    #expect(try record([program], to: folder / "t.iotrace", in: folder.path).status == 0)
    let trace = try RecordedTrace(folder / "t.iotrace")
    #expect(trace.events(.write).map(\.result) == [9] && trace.events(.read).map(\.result) == [9])
  }
}
