/// The file type in st_mode, as in stat(2) and inode(7).
enum FileMode {
  static func kind(_ mode: UInt32) -> TraceFile.Kind {
    switch mode & 0o170000 {
    case 0o100000: .regular
    case 0o060000: .blockDevice
    case 0o020000: .characterDevice
    case 0o040000: .directory
    case 0o010000: .pipe
    case 0o140000: .socket
    case 0o120000: .symbolicLink
    default: .anonymous
    }
  }
}
