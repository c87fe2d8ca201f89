import Foundation
import Testing
import TraceKit

/// Real programs under strace and the recorder in one run: both look at the very same calls, and must see them alike.
///
/// What strace sees and the recorder doesn't is made inside libc, and is named: the loader's look at libraries, and files that
/// libc itself or stdio has open (the program never opened them by a call of its own).
@Suite(.serialized, .enabled(if: installed("strace") != nil, "strace is not installed"))
struct RecordOracleTests {
  let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    try FileManager.default.createDirectory(atPath: folder / "tree", withIntermediateDirectories: true)
    for i in 1...12 {
      let bytes = (0..<(i * 7919)).map { UInt8(truncatingIfNeeded: $0 &* i) }
      try Data(bytes).write(to: URL(fileURLWithPath: folder / "tree/file\(i)"))
    }
  }

  /// Records `command` under strace and compares; returns how many calls were compared and what was explained.
  /// - Parameter stdioFiles: suffixes of files in the test's own folder that the program reads or writes by stdio.
  @discardableResult
  private func compare(_ command: [String], input: String? = nil, stdioFiles: [String] = []) throws -> (
    compared: Int, explained: [String: Int]
  ) {
    let (log, output) = (folder / "strace.log", folder / "trace.iotrace")
    try? FileManager.default.removeItem(atPath: output)
    let result = try run(
      "strace",
      [
        "-f", "-y", "-s", "0", "-o", log, "-e", "trace=" + StraceLog.calls, traceRecord, "run", "--quiet", "--no-calibration", "-o", output,
        "--",
      ] + command,
      in: folder.path, environment: ["HOME": folder.path], input: input, timeoutSeconds: 300)
    try #require(result.status == 0, "\(result.stderr)")
    let trace = try RecordedTrace(output)
    #expect(trace.totals?.lossless == true)
    let straced = try StraceLog(log).transfers
    var compared = 0
    var explained: [String: Int] = [:]
    for (thread, recorded) in trace.transfers {
      let seen = try #require(straced[thread], "strace knows no thread \(thread)")
      compared += match(recorded, seen, thread, stdioFiles, &explained)
    }
    // Threads that the trace does not have must have nothing to show; the recorder itself writes the trace.
    for (thread, seen) in straced where trace.transfers[thread] == nil {
      _ = match([], seen.filter { !$0.path.hasSuffix(".iotrace") }, thread, stdioFiles, &explained)
    }
    return (compared, explained)
  }

  /// Walks both lists; each call of strace's that was not recorded needs a name.
  private func match(
    _ recorded: [ObservedTransfer], _ seen: [ObservedTransfer], _ thread: Int32, _ stdioFiles: [String],
    _ explained: inout [String: Int]
  ) -> Int {
    let recordedPaths = Set(recorded.map(\.path))
    var next = 0
    var buffered: Int64 = 0
    for call in seen {
      if next < recorded.count, call == recorded[next] {
        next += 1
      } else if next < recorded.count, recorded[next].isBuffered, isPart(call, of: recorded[next], after: buffered) {
        buffered += call.result
        if buffered == recorded[next].result {
          next += 1
          buffered = 0
        }
      } else if let name = explanation(call, recordedPaths, stdioFiles) {
        explained[name, default: 0] += 1
      } else {
        Issue.record(
          "thread \(thread), call \(next): strace saw \(call), recorded \(next < recorded.count ? "\(recorded[next])" : "nothing")")
        return next
      }
    }
    #expect(next == recorded.count, "thread \(thread): recorded \(recorded.count) calls, strace saw \(next) of them")
    return next
  }

  /// Whether a system call belongs to a recorded call on a stream of which `before` bytes were seen already.
  private func isPart(_ call: ObservedTransfer, of buffered: ObservedTransfer, after before: Int64) -> Bool {
    call.path == buffered.path && call.isWrite == buffered.isWrite
      && (call.result > 0 ? before + call.result <= buffered.result : before == 0 && call.result == buffered.result)
  }

  private func explanation(_ call: ObservedTransfer, _ recordedPaths: Set<String>, _ stdioFiles: [String]) -> String? {
    if call.path.contains(".so"), !call.isWrite { return "loader" }
    if call.result == 0, !call.isWrite, recordedPaths.contains(call.path) { return "stdio: the end behind the last bytes" }
    if stdioFiles.contains(where: { call.path.hasSuffix($0) }) { return "stdio" }
    return recordedPaths.contains(call.path) || call.path.hasPrefix(folder.path + "/") ? nil : "libc: locale, names, standard streams"
  }

  @Test func tarIsSeenCallByCall() throws {
    let made = try compare(["tar", "cf", "made.tar", "tree"])
    #expect(made.compared >= 24)
    try compare(["tar", "xf", "made.tar", "--one-top-level=again"])
  }

  @Test(.enabled(if: installed("cc") != nil, "no C compiler"))
  func stdioIsSeenAsTheSystemCallsThatItMakes() throws {
    let elsewhere = try TemporaryFolder()
    let program = try compileC(
      """
      #include <stdio.h>
      #include <stdlib.h>
      #include <unistd.h>
      int main() {
        FILE *f = fopen("data", "w+");
        for (int i = 0; i < 2000; i++) fprintf(f, "line %d\\n", i);
        for (int i = 0; i < 5000; i++) putc_unlocked('x', f);
        fputs("hello\\n", f);
        fwrite(calloc(1, 20000), 1, 20000, f);
        fseek(f, 100, SEEK_SET);
        char line[200];
        for (int i = 0; i < 700; i++) fgets(line, 200, f);
        rewind(f);
        int c, a, b;
        while ((c = getc_unlocked(f)) != EOF) {}
        ungetc('z', f);
        fseek(f, 9000, SEEK_SET);
        if (getc(f) == ungetc('q', f)) return 1;
        fread(line, 1, 100, f);
        fclose(f);
        char *text = 0;
        size_t room = 0;
        f = fopen("data", "r");
        while (getline(&text, &room, f) > 0) {}
        fclose(f);
        f = fopen("data", "r");
        fread(malloc(100000), 7, 14000, f);
        fclose(f);
        f = fopen("data", "r");
        for (int i = 0; i < 1000; i++) if (fscanf(f, "line %d\\n", &a) != 1) return 2;
        fclose(f);
        f = fopen("log", "a");
        fputs("appended\\n", f);
        fflush(f);
        fputs("more\\n", f);
        f = freopen("log", "r+", f);
        fgets(line, 200, f);
        fseek(f, 0, SEEK_CUR);
        fputs("over", f);
        fflush(NULL);
        f = popen("cat data", "r");
        while (fgets(line, 200, f)) {}
        pclose(f);
        setvbuf(stdout, 0, _IOLBF, 100);
        for (b = 0; b < 50; b++) printf("%d %s", b, b % 7 ? "" : "\\n");
        dprintf(1, "by number\\n");
        f = fopen("left", "w");
        fputs("left open", f);
        return 0;
      }
      """, in: elsewhere, name: "stdio")
    let seen = try compare([program])
    #expect(seen.compared > 60)
    #expect(seen.explained["stdio"] == nil)
    let trace = try RecordedTrace(folder / "trace.iotrace")
    // Every byte of the file was written once, and the offsets follow each other.
    let writes = trace.events(.write, "/data")
    var end: UInt64 = 0
    for write in writes {
      #expect(write.offsetBytes == end && write.flags.contains(.buffered))
      end += UInt64(write.result)
    }
    #expect(end == 43_896)
    #expect(trace.events(.write, "/left").map(\.result) == [9])
    #expect(trace.events(.read, "/data").contains { $0.offsetIfKnown == 8192 })
  }

  @Test(.enabled(if: installed("sqlite3") != nil, "sqlite3 is not installed"))
  func sqliteIsSeenCallByCall() throws {
    var script = "CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT);\n"
    for block in 0..<30 {
      script += "BEGIN;\n"
      for i in 0..<100 { script += "INSERT INTO t (text) VALUES ('row \(block * 100 + i) with some text behind it');\n" }
      script += "COMMIT;\n"
    }
    let seen = try compare(["sqlite3", "data.db"], input: script)
    #expect(seen.compared > 200)
  }

  @Test(.enabled(if: installed("git") != nil, "git is not installed"))
  func gitIsSeenCallByCall() throws {
    // git reads its configuration and writes messages by stdio.
    let seen = try compare(
      ["sh", "-c", "git init -q g && cp -r tree g/ && cd g && git add . && git -c user.name=a -c user.email=b@c commit -qm message"],
      stdioFiles: ["config", "HEAD", "COMMIT_EDITMSG", "packed-refs", "exclude", "config.lock", "HEAD.lock", "stdout", "stderr"])
    #expect(seen.compared > 50)
  }

  @Test(.enabled(if: installed("python3") != nil, "python3 is not installed"))
  func pythonThreadsAreSeenCallByCall() throws {
    let script = try folder.write(
      "threads.py",
      """
      import threading, os
      def work(n):
          for i in range(20):
              with open(f'out{n}', 'ab' if i % 2 else 'wb') as f:
                  f.write(b'x' * (1000 * n + i))
              with open(f'out{n}', 'rb') as f:
                  while f.read(700): pass
      threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 7)]
      for t in threads: t.start()
      for t in threads: t.join()
      """)
    // pyenv's python3 is a shell script in front of the program; both are recorded.
    let seen = try compare(["python3", script], stdioFiles: ["threads.py"])
    #expect(seen.compared > 300)
  }

  @Test(.enabled(if: installed("fio") != nil, "fio is not installed"))
  func fioIsSeenCallByCall() throws {
    let seen = try compare([
      "fio", "--name=j", "--thread", "--numjobs=4", "--ioengine=psync", "--rw=randrw", "--bs=4k", "--size=1m", "--filename=fio.data",
      "--output=/dev/null",
    ])
    #expect(seen.compared >= 1024)
  }
}
