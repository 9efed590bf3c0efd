"""TrueType fonts of a few characters, written byte by byte (Apple's TrueType reference)."""

import struct

UNITS = 1000


def tiny_font(characters):
    """A font whose characters are filled bars, and whose missing ones are an upright square."""
    glyphs = [_bar(50, 450, 700), *(_bar(50, 950 - n, 350) for n in range(len(characters)))]
    many = len(glyphs)
    places = [0]
    for glyph in glyphs:
        places.append(places[-1] + len(glyph))
    groups = b"".join(
        struct.pack(">III", code, code, index)
        for code, index in sorted((ord(one), n + 1) for n, one in enumerate(characters))
    )
    mapping = struct.pack(">HHIII", 12, 0, 16 + len(groups), 0, len(characters)) + groups
    head = (0x10000, 0x10000, 0, 0x5F0F3CF5, 0, UNITS, 0, 0, 0, 0, UNITS, UNITS, 0, 8, 2, 1, 0)
    across = (0x10000, 800, -200, 0, UNITS, 0, 0, UNITS, 1, *(0,) * 7, many)
    tables = {
        b"cmap": struct.pack(">HHHHI", 0, 1, 3, 10, 12) + mapping,
        b"glyf": b"".join(glyphs),
        b"head": struct.pack(">IIIIHHqqhhhhHHhhh", *head),
        b"hhea": struct.pack(">IhhhHhhhhhhhhhhhH", *across),
        b"hmtx": struct.pack(">Hh", UNITS, 50) * many,
        b"loca": struct.pack(f">{many + 1}I", *places),
        b"maxp": struct.pack(">IH13H", 0x10000, many, 8, 2, 0, 0, 1, *(0,) * 8),
    }
    begin = struct.pack(">IHHHH", 0x10000, len(tables), 64, 2, 0)
    body, place = b"", 12 + 16 * len(tables)
    for tag, data in sorted(tables.items()):
        padded = data + b"\0" * (-len(data) % 4)
        total = sum(struct.unpack(f">{len(padded) // 4}I", padded)) & 0xFFFFFFFF
        begin += tag + struct.pack(">III", total, place + len(body), len(data))
        body += padded
    return begin + body


def _bar(left, right, high):
    corners = [(left, 0), (left, high), (right, high), (right, 0)]
    data = struct.pack(">hhhhhHH", 1, left, 0, right, high, 3, 0) + bytes([1] * 4)
    for axis in (0, 1):
        values = [one[axis] for one in corners]
        steps = (here - before for here, before in zip(values, [0, *values], strict=False))
        data += struct.pack(">4h", *steps)
    return data + b"\0" * (-len(data) % 4)
