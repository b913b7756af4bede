"""Pictures that keep a decoder busy for minutes."""

from __future__ import annotations

import struct


def endless_jpeg(side: int = 14_000, scans: int = 4_000) -> bytes:
    """A progressive grey JPEG of empty scans: each says of all blocks that nothing in them changes."""

    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

    def pack_bits(bits: str) -> bytes:
        filled = bits + "1" * (-len(bits) % 8)
        return int(filled, 2).to_bytes(len(filled) // 8, "big").replace(b"\xff", b"\xff\0")

    runs = -(-((side + 7) // 8 * ((side + 7) // 8)) // 32_767)
    scan = segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + pack_bits(("0" + "1" * 14) * runs)
    return b"".join(
        [
            b"\xff\xd8",
            segment(0xDB, bytes([0]) + bytes([1] * 64)),
            segment(0xC2, struct.pack(">BHHBBBB", 8, side, side, 1, 1, 0x11, 0)),
            segment(0xC4, bytes([0x10, 1, *[0] * 15, 0xE0])),
            scan * scans,
            b"\xff\xd9",
        ]
    )
