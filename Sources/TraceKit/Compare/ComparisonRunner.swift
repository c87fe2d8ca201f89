import CTrace
import Glibc

/// Makes the runs of a comparison: one discarded run of each candidate, then rounds of one run each.
///
/// Every run begins in the same state: what earlier runs wrote is on its device (sync(2)), scratch files are new and filled alike,
/// and named targets are as a run of the same candidate left them.
public struct ComparisonRunner: Sendable {
  /// What is being done, for people.
  public struct Step: Sendable {
    public var candidate: String
    /// Counted from 1; 0 for the discarded run.
    public var round: Int
    public var rounds: Int
  }

  /// All runs that were made.
  public struct Runs: Sendable {
    /// By candidate, in the order of the rounds.
    public var reports: [[ReplayReport]]
    /// Paths of the saved reports and logs, likewise.
    public var reportPaths: [[String]]
    public var logPaths: [[String]]
    /// A signal came before all were made.
    public var isInterrupted: Bool
  }

  public let tracePath: String
  public let candidates: [ComparisonCandidate]
  public let rounds: Int
  public let seed: UInt64
  public let folder: RunFolder
  public let keepsLogs: Bool

  public init(
    tracePath: String, candidates: [ComparisonCandidate], rounds: Int, seed: UInt64, folder: RunFolder, keepsLogs: Bool
  ) {
    self.tracePath = tracePath
    self.candidates = candidates
    self.rounds = rounds
    self.seed = seed
    self.folder = folder
    self.keepsLogs = keepsLogs
  }

  /// - Parameters:
  ///   - step: called before each run.
  ///   - progress: called about ten times a second while one runs.
  public func run(step: (Step) -> Void, progress: (Replayer.Progress) -> Void) throws(TraceError) -> Runs {
    var runs = Runs(
      reports: candidates.map { _ in [] }, reportPaths: candidates.map { _ in [] }, logPaths: candidates.map { _ in [] },
      isInterrupted: false)
    for candidate in candidates {
      step(Step(candidate: candidate.name, round: 0, rounds: rounds))
      if try replay(candidate.options, progress).run.partial {
        runs.isInterrupted = true
        return runs
      }
    }
    for (round, order) in RunOrder.rounds(rounds, candidates: candidates.count, seed: seed).enumerated() {
      for number in order {
        let candidate = candidates[number]
        step(Step(candidate: candidate.name, round: round + 1, rounds: rounds))
        let stem = Self.stem(number, round)
        let options = keepsLogs ? folder.logging(candidate.options, as: "\(stem).iotrace") : candidate.options
        let report = try replay(options, progress)
        if report.run.partial {
          runs.isInterrupted = true
          return runs
        }
        try folder.write(ReportFile.json(report), as: "\(stem).json")
        runs.reports[number].append(report)
        runs.reportPaths[number].append(folder.file("\(stem).json"))
        if keepsLogs { runs.logPaths[number].append(folder.file("\(stem).iotrace")) }
      }
    }
    return runs
  }

  private func replay(_ options: ReplayOptions, _ progress: (Replayer.Progress) -> Void) throws(TraceError) -> ReplayReport {
    // Write-back of the run before must not run into this one.
    sync()
    return try Replayer(tracePath: tracePath, options: options).run(progress: progress)
  }

  /// `A-1` for the first run of the first candidate.
  private static func stem(_ candidate: Int, _ round: Int) -> String { "\(letter(candidate))-\(round + 1)" }

  /// A, B … Z, then numbers.
  public static func letter(_ candidate: Int) -> String {
    candidate < 26 ? String(UnicodeScalar(UInt8(65 + candidate))) : "C\(candidate + 1)"
  }
}
