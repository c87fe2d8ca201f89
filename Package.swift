// swift-tools-version: 6.1
import PackageDescription

let swiftSettings: [SwiftSetting] = [.swiftLanguageMode(.v6)]

let package = Package(
  name: "iotrace",
  products: [
    .library(name: "TraceKit", targets: ["TraceKit"]),
    .executable(name: "trace-record", targets: ["TraceRecord"]),
    .executable(name: "trace-replay", targets: ["TraceReplay"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
  ],
  targets: [
    .target(
      name: "CTrace",
      linkerSettings: [.linkedLibrary("uring"), .linkedLibrary("aio"), .linkedLibrary("z")]),
    .target(
      name: "TraceKit",
      dependencies: ["CTrace", .product(name: "SystemPackage", package: "swift-system")],
      swiftSettings: swiftSettings),
    .plugin(name: "PreloadBuilder", capability: .buildTool()),
    .executableTarget(
      name: "TraceRecord",
      dependencies: [
        "TraceKit", "CTrace", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: swiftSettings,
      plugins: ["PreloadBuilder"]),
    .executableTarget(
      name: "TraceReplay",
      dependencies: [
        "TraceKit", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: swiftSettings),
    .executableTarget(
      name: "TraceBenchmarks", dependencies: ["TraceKit", "CTrace"], path: "Benchmarks/TraceBenchmarks",
      swiftSettings: swiftSettings),
    // Simulated runs for the tests of the statistics: hundreds of millions of random numbers, hopeless without optimisation.
    .target(
      name: "LatencySimulation", dependencies: ["TraceKit"], path: "Tests/LatencySimulation",
      swiftSettings: swiftSettings + [.unsafeFlags(["-O"])]),
    .testTarget(name: "TraceKitTests", dependencies: ["TraceKit", "CTrace", "LatencySimulation"], swiftSettings: swiftSettings),
    .testTarget(
      name: "CommandTests", dependencies: ["TraceKit", "CTrace", "TraceRecord", "TraceReplay"],
      swiftSettings: swiftSettings),
  ]
)
