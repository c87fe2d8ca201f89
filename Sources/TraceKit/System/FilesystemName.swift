/// Names of filesystem types, from their magic numbers in include/uapi/linux/magic.h.
public enum FilesystemName {
  /// The name, or the number in hexadecimal.
  public static func name(_ type: UInt64) -> String {
    switch type & 0xFFFF_FFFF {
    case 0xEF53: "ext4"
    case 0x5846_5342: "xfs"
    case 0x9123_683E: "btrfs"
    case 0x0102_1994: "tmpfs"
    case 0x794C_7630: "overlayfs"
    case 0x6969: "nfs"
    case 0x6573_5546: "fuse"
    case 0xF2F5_2010: "f2fs"
    case 0x2FC1_2FC1: "zfs"
    case 0x4D44: "vfat"
    case 0x9FA0: "proc"
    case 0x6265_6572: "sysfs"
    case 0x1CD1: "devpts"
    case 0x5346_544E: "ntfs"
    case 0xCA45_1A4E: "bcachefs"
    default: "0x" + String(type & 0xFFFF_FFFF, radix: 16)
    }
  }
}
