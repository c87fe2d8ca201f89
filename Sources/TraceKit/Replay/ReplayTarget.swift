/// One opened target.
public struct ReplayTarget: Sendable {
  public var path: String
  /// Opened for the requests of this recorded file; −1 until then.
  var descriptor: Int32 = -1
  /// The same with O_DIRECT, where recorded requests had it and the target takes it.
  var directDescriptor: Int32 = -1
  /// What O_DIRECT asks of offsets and lengths: STATX_DIOALIGN, or the logical block size; 512 where neither is known.
  var directAlignmentBytes: UInt32 = 512
  public var isBlockDevice = false
  public var sizeBytes: UInt64 = 0
  /// How recorded offsets become the target's.
  var placement = TargetPlacement()
  /// The first target that is the same file or device; its own number unless several recorded files share one.
  var primary = 0
  /// Made by this replay, in a scratch folder or a folder that was named.
  public var isNew = false
  public var bytesToWrite: UInt64 = 0
  public var requests: UInt64 = 0
  /// What a report calls it when it is no file: the scheme of its address.
  var addressScheme: String?
}
