import Testing

@testable import TraceKit

@Test func controlCharactersAndBrokenBytesAreEscaped() {
  #expect(PrintableText.escaped([0x61, 0x1B, 0xFF, 0xC3, 0xA4]) == "a\\x1b\\xffä")
  #expect(PrintableText.escaped("a\nb\\") == "a\\x0ab\\x5c")
}
