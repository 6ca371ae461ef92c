"""Files that may hold recordings and are not read: what they are, and how to get at the events."""

from pathlib import Path

EXPORT = "write its events as text (t x y p) or NPZ (arrays t, x, y, p) and read that"
ROS = f"export the topic of events with the package rosbags (pip install rosbags): {EXPORT}"
MAGICS = {
    b"#ROSBAG": f"a bag of ROS 1, which is not read; {ROS}",
    b"SQLite format 3\0": f"a database, such as a bag of ROS 2 (.db3), which is not read; {ROS}",
    b"\x89MCAP0\r\n": f"an MCAP file, such as a bag of ROS 2, which is not read; {ROS}",
    b"\xfd7zXZ\0": "packed by xz; unpack it first (xz -d)",
    b"\x28\xb5\x2f\xfd": "packed by Zstandard; unpack it first (zstd -d)",
    b"\x04\x22\x4d\x18": "packed by LZ4; unpack it first (lz4 -d)",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip file; unpack it first",
    b"Rar!": "a RAR file; unpack it first",
    b"MATLAB 5.0 MAT-file": f"a file of MATLAB, which is not read; {EXPORT}",
    b"PAR1": f"a Parquet file, which is not read; {EXPORT}",
    b"\x80\x04\x95": f"a pickle, which could run code and is not read; {EXPORT}",
}
TAR_MARK, TAR_AT = b"ustar", 257
BAG_SUFFIXES = (".bag", ".db3", ".mcap")


def describe_other(head: bytes, name: str) -> str:
    """What a file is that begins so, and what to do with it; "" where it is unknown."""
    if head[TAR_AT : TAR_AT + len(TAR_MARK)] == TAR_MARK:
        return "a tar file; unpack it first (tar xf)"
    if head and Path(name).suffix.lower() in BAG_SUFFIXES:
        return next((text for magic, text in MAGICS.items() if head.startswith(magic)), f"named like a bag of ROS; {ROS}")
    return next((text for magic, text in MAGICS.items() if head.startswith(magic)), "")
