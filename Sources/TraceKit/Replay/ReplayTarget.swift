/// One opened target.
public struct ReplayTarget: Sendable {
  public var path: String
  /// Opened for the requests of this recorded file; −1 until then.
  var descriptor: Int32 = -1
  /// The same with O_DIRECT, where recorded requests had it and the target takes it.
  var directDescriptor: Int32 = -1
  /// What O_DIRECT asks of offsets and lengths: the logical block size.
  var directAlignmentBytes: UInt32 = 512
  public var isBlockDevice = false
  public var sizeBytes: UInt64 = 0
  /// Made by this replay, in a scratch folder or a folder that was named.
  public var isNew = false
  public var bytesToWrite: UInt64 = 0
  public var requests: UInt64 = 0
  /// What a report calls it when it is no file: the scheme of its address.
  var addressScheme: String?
}
