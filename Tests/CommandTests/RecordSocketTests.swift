import Foundation
import Testing
import TraceKit

/// Programs that talk, under strace and the recorder in one run.
@Suite(.serialized, .enabled(if: installed("cc") != nil, "no C compiler"))
struct RecordSocketTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private static let program = """
    #include <arpa/inet.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <netinet/in.h>
    #include <pthread.h>
    #include <stddef.h>
    #include <string.h>
    #include <sys/sendfile.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #include <sys/un.h>
    #include <unistd.h>
    static int listener;
    static void *serve(void *unused) {
      char p[4096];
      int fd = accept(listener, 0, 0);
      for (ssize_t n; (n = recv(fd, p, sizeof p, 0)) > 0;) send(fd, p, (size_t)n, MSG_NOSIGNAL);
      recv(fd, p, 1, MSG_DONTWAIT);
      close(fd);
      return 0;
    }
    int main() {
      struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
      socklen_t bytes = sizeof address;
      char p[4096] = "hello";
      struct iovec v[2] = {{p, 10}, {p + 10, 20}};
      struct msghdr message = {.msg_iov = v, .msg_iovlen = 2};
      listener = socket(AF_INET, SOCK_STREAM, 0);
      bind(listener, (struct sockaddr *)&address, bytes);
      listen(listener, 5);
      getsockname(listener, (struct sockaddr *)&address, &bytes);
      pthread_t thread;
      pthread_create(&thread, 0, serve, 0);
      int fd = socket(AF_INET, SOCK_STREAM, 0);
      if (connect(fd, (struct sockaddr *)&address, bytes)) return 1;
      for (int i = 0; i < 20; i++) { send(fd, p, 100, 0); recv(fd, p, 100, MSG_WAITALL); }
      write(fd, p, 50); read(fd, p, 50);
      sendmsg(fd, &message, 0); recvmsg(fd, &message, MSG_WAITALL);
      int file = open("data", O_RDWR | O_CREAT | O_TRUNC, 0600);
      write(file, p, 3000);
      off_t at = 500;
      sendfile(fd, file, &at, 1000); recv(fd, p, 1000, MSG_WAITALL);
      shutdown(fd, SHUT_WR);
      pthread_join(thread, 0);
      close(fd);
      int closed = socket(AF_INET, SOCK_STREAM, 0);
      close(listener);
      if (connect(closed, (struct sockaddr *)&address, bytes) != -1 || errno != ECONNREFUSED) return 2;
      // Datagrams.
      struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
      bytes = sizeof six;
      int receiver = socket(AF_INET6, SOCK_DGRAM, 0), sender = socket(AF_INET6, SOCK_DGRAM, 0);
      if (bind(receiver, (struct sockaddr *)&six, bytes) == 0) {
        getsockname(receiver, (struct sockaddr *)&six, &bytes);
        sendto(sender, p, 33, 0, (struct sockaddr *)&six, bytes);
        recvfrom(receiver, p, sizeof p, 0, 0, 0);
        connect(sender, (struct sockaddr *)&six, bytes);
        struct mmsghdr many[3] = {{.msg_hdr = message}, {.msg_hdr = message}, {.msg_hdr = message}};
        sendmmsg(sender, many, 3, 0);
        recvmmsg(receiver, many, 3, MSG_WAITFORONE, 0);
      }
      // Local ones, and pipes.
      struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "socket"};
      int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
      bind(server, (struct sockaddr *)&local, sizeof local);
      listen(server, 1);
      connect(client, (struct sockaddr *)&local, sizeof local);
      int peer = accept4(server, 0, 0, SOCK_CLOEXEC);
      send(client, p, 7, 0); recv(peer, p, 7, 0);
      int pair[2], first[2], second[2];
      socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
      write(pair[0], p, 9); read(pair[1], p, 9);
      pipe(first); pipe(second);
      vmsplice(first[1], v, 2, 0);
      tee(first[0], second[1], 30, 0);
      splice(second[0], 0, file, 0, 30, 0);
      return 0;
    }
    """

  @Test(.enabled(if: installed("strace") != nil, "strace is not installed"))
  func everyCallAndItsPeerAreSeen() throws {
    let program = try compileC(Self.program, in: folder, name: "talk")
    let (log, output) = (folder / "strace.log", folder / "t.iotrace")
    let operations: [String: TraceOperation] = [
      "sendto": .send, "sendmsg": .send, "sendmmsg": .send, "recvfrom": .receive, "recvmsg": .receive, "recvmmsg": .receive,
      "connect": .connect, "accept": .accept, "accept4": .accept, "sendfile": .sendfile, "splice": .splice, "tee": .other,
      "vmsplice": .other,
    ]
    let result = try run(
      "strace",
      [
        "-f", "-o", log, "-e", "trace=" + operations.keys.sorted().joined(separator: ","), traceRecord, "run", "--no-calibration", "-o",
        output,
      ]
        + ["--", program], in: folder.path)
    try #require(result.status == 0, "\(result.stderr)")
    let trace = try RecordedTrace(output)
    let threads = Set(trace.events.map(\.threadID))
    for (thread, calls) in try CallLog(log).calls where threads.contains(thread) {
      let recorded = trace.events.filter { $0.threadID == thread && operations.values.contains($0.operation) }
      var expected: [String] = []
      for call in calls {
        guard let operation = operations[call.name] else { continue }
        // A call that moves several messages gives an event for each; all are of 30 bytes here.
        if call.name.hasSuffix("mmsg") {
          expected += Array(repeating: "\(operation.name) 30", count: Int(call.result))
        } else {
          expected.append("\(operation.name) \(call.result)")
        }
      }
      #expect(recorded.map { "\($0.operation.name) \($0.result)" } == expected, "thread \(thread)")
    }
    let sent = trace.events(.send)
    #expect(sent.count == 20 + 20 + 4 + 5)
    let peers = Set(trace.files.filter { $0.kind == .socket }.map { $0.displayPath.prefix { !$0.isNumber } })
    #expect(peers.isSuperset(of: ["tcp:", "tcp-listen:", "udp:[::", "unix:socket"]), "\(peers)")
    let connected = try #require(trace.events(.connect).first)
    #expect(trace.path(connected).hasPrefix("tcp:127.0.0.1:"))
    #expect(trace.events(.send).contains { trace.path($0) == trace.path(connected) })
    let accepted = try #require(trace.events(.accept).first)
    #expect(trace.path(accepted).hasPrefix("tcp-listen:127.0.0.1:"))
    #expect(trace.files[Int(accepted.otherFile)].displayPath.hasPrefix("tcp:127.0.0.1:"))
    #expect(trace.events(.send, "unix:socket").count == 1)
    #expect(trace.events(.write).contains { trace.path($0) == trace.path(connected) && $0.result == 50 })
    #expect(trace.events(.sendfile)[0].offsetBytes == 500 && trace.files[Int(trace.events(.sendfile)[0].otherFile)].kind == .socket)
  }
}
