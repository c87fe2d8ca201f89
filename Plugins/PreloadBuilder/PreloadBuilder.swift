import Foundation
import PackagePlugin

/// Compiles Sources/CTracePreload into `libtracepreload.so`.
///
/// A dynamic library product of the package manager would link the Swift runtime and so kill traced programs on hosts
/// without it; a library that the C compiler makes needs libc only. The result is a resource of the target that the
/// plugin is applied to, so plain `swift build` puts it beside the executable.
@main
struct PreloadBuilder: BuildToolPlugin {
  func createBuildCommands(context: PluginContext, target: Target) throws -> [Command] {
    let sources = context.package.directoryURL.appending(path: "Sources")
    let folder = sources.appending(path: "CTracePreload")
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    let cFiles = names.filter { $0.hasSuffix(".c") }.map { folder.appending(path: $0) }
    let headers = names.filter { $0.hasSuffix(".h") }.map { folder.appending(path: $0) }
    let ringHeader = sources.appending(path: "CTrace/include/trace_ring.h")
    let library = context.pluginWorkDirectoryURL.appending(path: "libtracepreload.so")
    let arguments =
      [
        "-O2", "-g", "-std=gnu11", "-shared", "-fPIC", "-fvisibility=hidden", "-ftls-model=initial-exec",
        "-fno-plt", "-Wall", "-Wextra", "-Wl,-z,now", "-Wl,-z,relro",
        "-I", sources.appending(path: "CTrace/include").path, "-o", library.path,
      ] + cFiles.map(\.path) + ["-ldl", "-lpthread"]
    return [
      .buildCommand(
        displayName: "Compiling the preload recorder",
        executable: compiler(),
        arguments: arguments,
        inputFiles: cFiles + headers + [ringHeader],
        outputFiles: [library])
    ]
  }

  /// The C compiler: `$CC` when it names an existing file, else the first of cc, gcc and clang on the search path.
  private func compiler() -> URL {
    let environment = ProcessInfo.processInfo.environment
    let folders = (environment["PATH"] ?? "/usr/bin:/bin").split(separator: ":").map(String.init)
    if let named = environment["CC"], FileManager.default.isExecutableFile(atPath: named) {
      return URL(fileURLWithPath: named)
    }
    for name in ["cc", "gcc", "clang"] {
      for folder in folders where FileManager.default.isExecutableFile(atPath: "\(folder)/\(name)") {
        return URL(fileURLWithPath: "\(folder)/\(name)")
      }
    }
    return URL(fileURLWithPath: "/usr/bin/cc")
  }
}
