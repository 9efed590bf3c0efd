"""Signatures of the containers of videos."""

from __future__ import annotations

# Signatures: an offset, and the alternatives of the bytes there.
_SIGNATURES: tuple[tuple[int, tuple[bytes, ...]], ...] = (
    (4, (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof")),  # MP4
    (0, (b"\x1a\x45\xdf\xa3",)),  # Matroska, WebM
    (8, (b"AVI ", b"AVIX")),  # behind RIFF and a size
    (0, (b"FLV\x01",)),
    (0, (b"OggS",)),
    (0, (b"GIF87a", b"GIF89a")),
    (0, (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",)),  # ASF, WMV
    (0, (b"\x00\x00\x01", b"\x00\x00\x00\x01")),  # MPEG and H.26x start codes
    (0, (b".RMF",)),
    (0, (b"DKIF",)),  # IVF
    (0, (b"\x06\x0e\x2b\x34\x02\x05\x01\x01",)),  # MXF
    (0, (b"nut/multimedia container",)),
    (0, (b"YUV4MPEG2 ",)),
    (0, (b"\x1f\x07\x00",)),  # DV
    (0, (b"\x12\x00\x0a", b"\x0a\x0b\x00\x00")),  # AV1 without a container
)

_TS_PACKETS = (188, 192, 204)
"""Packet lengths of transport streams, in bytes; each packet has a sync byte at the same offset."""


def has_signature(head: bytes) -> bool:
    """Whether a file begins with the signature of an admitted format."""
    return transport_packets(head) is not None or any(
        head[offset : offset + len(one)] == one for offset, ones in _SIGNATURES for one in ones
    )


def transport_packets(head: bytes) -> tuple[int, int] | None:
    """Offset of the first sync byte and length of the packets of a transport stream, in bytes.

    Returns:
        Offset and length; None: the file is none.
    """
    for length in _TS_PACKETS:
        for start in range(length):
            places = head[start : start + 5 * length : length]
            if len(places) == 5 and set(places) == {0x47}:
                return start, length
    return None
