import Testing

@testable import TraceKit

struct EngineSettingTests {
  /// Options in which one setting is chosen.
  private static func choosing(_ setting: EngineSetting) -> EngineOptions {
    var options = EngineOptions()
    switch setting {
    case .iodepth: options.iodepth = 8
    case .submissionPolling: options.submissionPolling = true
    case .completionPolling: options.completionPolling = true
    case .fixedBuffers: options.fixedBuffers = true
    case .eventLoop: options.eventLoop = .ioUring
    case .pipeSize: options.pipeBytes = 1 << 20
    case .idleRelease: options.idleReleaseNanoseconds = 1
    case .listen: options.network.listens = true
    case .duplex: options.network.isDuplex = true
    case .splice: options.network.splices = true
    case .timeout: options.network.timeoutNanoseconds = 1
    case .noDigest: options.network.computesDigests = false
    }
    return options
  }

  @Test(arguments: EngineSetting.allCases) func aSettingIsTakenByTheEnginesThatHaveItAndRefusedByNameElsewhere(_ setting: EngineSetting) {
    let options = Self.choosing(setting)
    #expect(options.chosen == [setting])
    for engine in EngineRegistry.entries {
      let refusal = engine.refusal(of: options)
      #expect((refusal == nil) == engine.settings.contains(setting), "\(engine.name) \(setting)")
      if let refusal { #expect(refusal.hasPrefix(setting.flag) && refusal.contains(engine.name)) }
      #expect(engine.refusal(of: options.keeping(engine.settings)) == nil)
    }
    #expect(EngineRegistry.entries.contains { $0.settings.contains(setting) })
  }

  @Test func engineOfDepthOneTakesDepthOne() throws {
    var options = EngineOptions()
    options.iodepth = 1
    #expect(try EngineRegistry.engine("sync").refusal(of: options) == nil)
  }

  @Test func oneCandidatesSettingsAreNotTheOthers() {
    var options = EngineOptions()
    options.iodepth = 32
    options.submissionPolling = true
    options.pipeBytes = 1 << 16
    let candidates = ComparisonCandidate.all(engines: ["sync", "libaio", "io_uring"], targets: []) { engine, _ in
      var made = ReplayOptions()
      made.engine = engine
      made.engineOptions = options
      return made
    }
    #expect(candidates[0].options.engineOptions.chosen == [.pipeSize])
    #expect(candidates[1].options.engineOptions.chosen == [.iodepth, .pipeSize])
    #expect(candidates[2].options.engineOptions.chosen == [.iodepth, .submissionPolling, .pipeSize])
  }
}
