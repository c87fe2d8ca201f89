import CTrace
import Glibc

/// How text may look where it is shown: colours, characters, width, units.
public struct TerminalStyle: Sendable {
  /// What `--color` asks for.
  public enum ColorChoice: String, CaseIterable, Sendable {
    case auto, always, never
  }

  /// Escape sequences for colours are understood and wanted.
  public var isColored: Bool
  /// Characters beyond ASCII can be shown.
  public var isUnicode: Bool
  /// Width in characters, 40 to 400.
  public var columns: Int
  public var units: UnitChoice
  /// Pictures made of characters are shown.
  public var showsPlots: Bool

  public init(
    isColored: Bool = false, isUnicode: Bool = true, columns: Int = 100, units: UnitChoice = UnitChoice(), showsPlots: Bool = true
  ) {
    self.isColored = isColored
    self.isUnicode = isUnicode
    self.columns = min(400, max(40, columns))
    self.units = units
    self.showsPlots = showsPlots
  }

  /// The style that standard output and the environment ask for. `--color auto` means colours on a terminal, unless NO_COLOR is set or
  /// TERM is dumb; the width is that of the terminal, or COLUMNS, or 100.
  public static func standardOutput(color: ColorChoice = .auto, units: UnitChoice = UnitChoice()) -> TerminalStyle {
    of(
      isTerminal: isatty(STDOUT_FILENO) == 1, windowColumns: Int(ctrace_terminal_columns(STDOUT_FILENO)), color: color, units: units,
      environment: { name in getenv(name).map { String(cString: $0) } })
  }

  /// The same with everything that it depends on as an argument.
  static func of(
    isTerminal: Bool, windowColumns: Int, color: ColorChoice, units: UnitChoice, environment: (String) -> String?
  ) -> TerminalStyle {
    func variable(_ name: String) -> String? { environment(name).flatMap { $0.isEmpty ? nil : $0 } }
    let wanted: Bool
    switch color {
    case .always: wanted = true
    case .never: wanted = false
    // https://no-color.org: any value that is not empty.
    case .auto: wanted = isTerminal && variable("NO_COLOR") == nil && variable("TERM") != nil && variable("TERM") != "dumb"
    }
    let locale = (variable("LC_ALL") ?? variable("LC_CTYPE") ?? variable("LANG") ?? "").lowercased()
    let columns = variable("COLUMNS").flatMap(Int.init).flatMap { $0 > 0 ? $0 : nil }
    return TerminalStyle(
      isColored: wanted, isUnicode: locale.contains("utf-8") || locale.contains("utf8"),
      columns: columns ?? (windowColumns > 0 ? windowColumns : 100), units: units)
  }

  // MARK: Characters and colours

  /// Colours of figures: the same pair as in HTML, from the palette of 256.
  enum Ink: Int {
    case first = 32
    case second = 208
    case soft = 245
  }

  /// Text in a colour, where there are colours.
  func ink(_ text: String, _ ink: Ink) -> String { isColored ? "\u{1b}[38;5;\(ink.rawValue)m\(text)\u{1b}[0m" : text }

  /// Text in bold letters, where there are any.
  func bold(_ text: String) -> String { isColored ? "\u{1b}[1m\(text)\u{1b}[0m" : text }

  /// The whole text in the characters that can be shown: ASCII stands in for the rest, and `\xNN` for what has no stand-in.
  public func fitted(_ text: String) -> String {
    if isUnicode || text.utf8.allSatisfy({ $0 < 0x80 }) { return text }
    var plain = ""
    for scalar in text.unicodeScalars {
      if scalar.isASCII {
        plain.unicodeScalars.append(scalar)
      } else if let stand = Self.standIns[scalar] {
        plain += stand
      } else {
        for byte in String(scalar).utf8 { plain += "\\x" + String(byte, radix: 16) }
      }
    }
    return plain
  }

  private static let standIns: [Unicode.Scalar: String] = [
    "µ": "u", "—": "-", "–": "-", "−": "-", "…": "..", "×": "x", "÷": "/", "≤": "<=", "▲": "^", "▼": "v", "≈": "=", "✓": "ok", "•": "*",
    "·": ".", "σ": "s", "±": "+-", "’": "'", "→": "->", "◂": "<", "▸": ">", "✕": "x", "∞": "inf",
  ]
}
