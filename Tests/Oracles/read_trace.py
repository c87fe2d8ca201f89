#!/usr/bin/env python3
"""An independent reader of traces, written from docs/trace-format.md alone.

Usage: read_trace.py FILE.iotrace

Prints the events as CSV, as `trace-record dump --csv` does, and checks every checksum, the counts and the digest on the
way. Exit status 1 when something is wrong. Needs nothing but Python's standard library.
"""
import json
import struct
import sys
import unicodedata
import zlib

MAGIC = b"\x89IOT\r\n\x1a\n"
MASK = (1 << 64) - 1
UNKNOWN = None
OPERATIONS = {
    1: "read", 2: "write", 3: "fsync", 4: "fdatasync", 5: "sync_file_range", 6: "msync", 7: "truncate", 8: "fallocate",
    9: "discard", 10: "write_zeroes", 11: "flush", 16: "open", 17: "close", 18: "dup", 19: "lseek", 20: "rename",
    21: "unlink", 22: "link", 24: "mmap", 25: "munmap", 32: "send", 33: "recv", 34: "connect", 35: "accept",
    40: "copy_file_range", 41: "sendfile", 42: "splice", 128: "gap",
}
FLAGS = [
    "direct", "sync", "dsync", "append", "inferred_offset", "in_flight_at_attach", "buffered", "sequential_call", "hipri",
    "nowait", "rwf_dsync", "rwf_sync", "vectored", "async", "creat", "trunc", "open_read", "open_write", "map_shared",
    "map_writable",
]


class Bad(Exception):
    pass


def signed(value):
    return value - (1 << 64) if value >> 63 else value


def unzigzag(value):
    return (value >> 1) ^ -(value & 1)


class Bytes:
    """A cursor over bytes."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        if count > len(self.data) - self.at:
            raise Bad("a length is out of bounds")
        self.at += count
        return self.data[self.at - count:self.at]

    def byte(self):
        return self.take(1)[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value & MASK

    def left(self):
        return len(self.data) - self.at


class Column:
    """The values of one column, before their deltas are undone."""

    def __init__(self, count, scale, constant=None, plain=b""):
        self.count = count
        self.scale = scale
        self.constant = constant
        self.bytes = Bytes(plain)

    def raw(self):
        self.count -= 1
        if self.count < 0:
            raise Bad("a column has too few values")
        return self.constant if self.constant is not None else self.bytes.varint()

    def unsigned(self):
        return (self.raw() * self.scale) & MASK

    def difference(self):
        return unzigzag(self.raw()) * self.scale


def read_columns(payload):
    data = Bytes(payload)
    columns = {}
    for _ in range(data.byte()):
        number, encoding, count, scale = data.byte(), data.byte(), data.varint(), data.varint()
        if encoding == 0:
            columns[number] = Column(count, scale, constant=data.varint())
            continue
        plain_length, stored_length = data.varint(), data.varint()
        stored = data.take(stored_length)
        if encoding == 1:
            columns[number] = Column(count, scale, plain=stored)
        elif encoding == 2:
            plain = zlib.decompress(stored, -15)
            if len(plain) != plain_length:
                raise Bad("a deflated column has another length")
            columns[number] = Column(count, scale, plain=plain)
        elif number in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 17):
            raise Bad("a known column in an unknown encoding")
    return columns


def read_events(first_time, count, payload):
    columns = read_columns(payload)
    files, previous = [], 0
    if 16 in columns:
        for _ in range(columns[16].count):
            previous += columns[16].difference()
            files.append(previous)
    threads = []
    if 17 in columns:
        for _ in range(columns[17].count // 2):
            process = columns[17].difference()
            threads.append((process, columns[17].difference()))
    if not threads:
        threads = [(-1, -1)]
    ends = {}
    start, expected = first_time, 0
    for _ in range(count):
        mask = columns[0].unsigned() if 0 in columns else 0

        def known(number, bit):
            return number in columns and not mask & bit

        start = signed((start + columns[1].unsigned()) & MASK)
        operation = columns[3].unsigned()
        flags = columns[4].unsigned() if 4 in columns else 0
        latency = signed(columns[2].unsigned()) if known(2, 1) else UNKNOWN
        file = UNKNOWN
        if files and not mask & 2:
            file = files[columns[5].unsigned() if 5 in columns else 0]
        size = columns[7].unsigned() if known(7, 8) else UNKNOWN
        offset = UNKNOWN
        if known(6, 4):
            offset = (ends.get(file, 0) + columns[6].difference()) & MASK
            ends[file] = (offset + (size or 0)) & MASK
        result = UNKNOWN
        if known(8, 16):
            result = signed(((size or 0) + columns[8].difference()) & MASK)
        process, thread = threads[columns[9].unsigned() if 9 in columns else 0]
        other = columns[10].unsigned() if known(10, 32) else UNKNOWN
        request = UNKNOWN
        if known(11, 64):
            request = (expected + columns[11].difference()) & MASK
            expected = (request + 1) & MASK
        yield (start, latency, operation, file, offset, size, result, process, thread, flags, other, request)


def read_files(count, payload):
    data = Bytes(payload)
    rows = {}
    for _ in range(count):
        row = Bytes(data.take(data.varint()))
        number, path = row.varint(), b""
        while row.left():
            tag, value = row.varint(), row.take(row.varint())
            if tag == 1:
                path = value
        rows[number] = path
    return rows


class Digest:
    def __init__(self):
        self.low, self.high = 0x243F6A8885A308D3, 0x13198A2E03707344

    def mix(self, word):
        self.low = ((self.low ^ word) * 0x9E3779B97F4A7C15) & MASK
        self.low ^= self.low >> 29
        high = ((self.high + word) * 0xC2B2AE3D27D4EB4F) & MASK
        self.high = (high << 31 | high >> 33) & MASK

    def add(self, event):
        start, _, operation, file, offset, size, _, _, thread = event[:9]
        self.mix(start & MASK)
        self.mix(MASK if offset is UNKNOWN else offset)
        self.mix(MASK if size is UNKNOWN else size)
        self.mix((0xFFFFFFFF if file is UNKNOWN else file) << 32 | thread & 0xFFFFFFFF)
        self.mix(operation if operation in OPERATIONS else 0)


def printable(path):
    """Paths as dumps show them: control characters, backslashes and broken bytes as \\xNN."""
    text = ""
    for character in path.decode("utf-8", "surrogateescape"):
        code = ord(character)
        if 0xDC80 <= code <= 0xDCFF:
            text += "\\x%02x" % (code - 0xDC00)
        elif character == "\\" or unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs"):
            text += "".join("\\x%02x" % byte for byte in character.encode("utf-8"))
        else:
            text += character
    return text


def field(value):
    return "" if value is UNKNOWN else str(value)


def csv(event, rows):
    start, latency, operation, file, offset, size, result, process, thread, flags = event[:10]
    name = ""
    if file is not UNKNOWN:
        name = printable(rows.get(file, b"")) or "#%d" % file
        if any(c in name for c in ",\"\r\n"):
            name = '"' + name.replace('"', '""') + '"'
    names = [FLAGS[i] for i in range(len(FLAGS)) if flags >> i & 1]
    if flags >> len(FLAGS):
        names.append("0x%x" % (flags & ~((1 << len(FLAGS)) - 1)))
    return ",".join([
        str(start), field(latency), OPERATIONS.get(operation, "other"), name, field(offset), field(size), field(result),
        "" if process == -1 else str(process), "" if thread == -1 else str(thread), "|".join(names),
    ])


def main(path):
    data = open(path, "rb").read()
    magic, major, minor, _, created, _, check = struct.unpack_from("<8sHHIqII", data)
    if magic != MAGIC or check != zlib.crc32(data[:28]):
        raise Bad("no trace, or a damaged preamble")
    if major != 1:
        raise Bad("format %d.%d; this reads 1.x" % (major, minor))
    at, sequence, rows, events, end, digest = 32, 0, {}, [], None, Digest()
    while at < len(data):
        header = data[at:at + 64]
        (mark, kind, flags, _, count, stored, raw, payload_check, first, last, first_event, number, _, check) = struct.unpack(
            "<4sBBHIIIIqqQQII", header)
        if mark != b"IOTB" or check != zlib.crc32(header[:60]):
            raise Bad("no block at byte %d" % at)
        payload = data[at + 64:at + 64 + stored]
        if len(payload) != stored or zlib.crc32(payload) != payload_check:
            raise Bad("the block at byte %d is damaged" % at)
        if number != sequence:
            raise Bad("block %d is missing" % sequence)
        sequence += 1
        if kind == 1:
            json.loads(payload)
        elif kind == 2:
            rows.update(read_files(count, payload))
        elif kind == 3:
            if first_event != len(events):
                raise Bad("events are missing")
            block = list(read_events(first, count, payload))
            if block[0][0] != first or block[-1][0] != last:
                raise Bad("a header's times are not those of its events")
            events += block
        elif kind == 5:
            end = struct.unpack_from("<QQQQQBB6xQQqqQQQQQQ", payload)
            if end[16] != at or struct.unpack_from("<4sB", data, end[15])[1] != 4:
                raise Bad("the end block names other places")
        at += 64 + stored
    for event in events:
        digest.add(event)
    if end and (end[0] != len(events) or (end[3], end[4]) != (digest.low, digest.high)):
        raise Bad("the end block's count or digest is another")
    out = ["start_ns,latency_ns,operation,file,offset,size,result,pid,tid,flags"] + [csv(event, rows) for event in events]
    sys.stdout.buffer.write("".join(line + "\r\n" for line in out).encode("utf-8"))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (Bad, struct.error, zlib.error, ValueError, IndexError, KeyError) as problem:
        sys.exit("%s: %s" % (sys.argv[1], problem))
