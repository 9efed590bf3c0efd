"""Limits on media: sizes, seconds, hosts and folders."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from langchain_core.load.serializable import Serializable
from pydantic import ConfigDict, Field, field_validator
from typing_extensions import Unpack

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class PolicyArguments(TypedDict, total=False):
    """Arguments of `MediaPolicy`, for type checkers."""

    max_bytes: int
    max_video_bytes: int
    max_frames: int
    max_pages: int
    max_pixels: int
    max_total_pixels: int
    max_redirects: int
    timeout: float
    allow_private_hosts: bool
    allowed_hosts: Sequence[str] | None
    roots: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
    loopback_ports: Sequence[int]


class MediaPolicy(Serializable):
    """Limits on the media of messages.

    Python objects and explicit paths come from the program and have no restriction on location.
    `url` fields are untrusted: only data URLs and public http(s) addresses are accepted.

    Attributes:
        max_bytes: Largest encoded size of one medium, in bytes. Default 64 MiB.
        max_video_bytes: Largest encoded size of a video, in bytes. Default 1 GiB.
        max_frames: Maximum number of frames of one video. Default 512.
        max_pages: Maximum number of pages of a PDF. Default 128.
        max_pixels: Largest width times height of one image or frame. Default 89,478,485,
            Pillow's own limit; for larger images also raise `PIL.Image.MAX_IMAGE_PIXELS`.
        max_total_pixels: Maximum total pixels of the frames of a video, or of the pages of a PDF;
            a pixel takes three bytes. Default 2**30.
        max_redirects: Maximum number of redirects of a URL. Default 5.
        timeout: Seconds for one whole download, and for decoding one video or PDF. Default 30.
        allow_private_hosts: Also fetch from loopback, private and link-local addresses.
            Use it only with trusted messages: an untrusted URL could reach internal services.
        allowed_hosts: The only hosts to fetch from: names or addresses as written in URLs;
            ".example.com" means a domain and its subdomains. None: any public host.
        roots: The only folders, including subfolders, from which an agent's tool arguments may
            name local files; symbolic links may not lead out. None: no files for agents. Paths
            from the program itself (`image_block(path)`) are not restricted.
        loopback_ports: Ports of this machine that are allowed in any case. For tests.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(default=64 * 1024 * 1024, gt=0)
    max_video_bytes: int = Field(default=1024 * 1024 * 1024, gt=0)
    max_frames: int = Field(default=512, gt=0)
    max_pages: int = Field(default=128, gt=0)
    max_pixels: int = Field(default=89_478_485, gt=0)
    max_total_pixels: int = Field(default=2**30, gt=0)
    max_redirects: int = Field(default=5, ge=0)
    timeout: float = Field(default=30.0, gt=0)
    allow_private_hosts: bool = False
    allowed_hosts: tuple[str, ...] | None = None
    roots: tuple[str, ...] | None = None
    loopback_ports: tuple[int, ...] = ()

    if TYPE_CHECKING:  # pydantic accepts more types than the fields have

        def __init__(self, **limits: Unpack[PolicyArguments]) -> None: ...

    @field_validator(
        "max_bytes", "max_video_bytes", "max_frames", "max_pages", "max_pixels",
        "max_total_pixels", "max_redirects", "timeout", mode="before",
    )  # fmt: skip
    @classmethod
    def _refuse_booleans(cls, value: Any) -> Any:
        if isinstance(value, bool):  # pydantic reads True as 1
            raise ValueError(f"a number, not {value}")  # noqa: TRY004 - pydantic's protocol
        return value

    @field_validator("roots", mode="before")
    @classmethod
    def _as_text(cls, roots: Any) -> Any:
        """Convert paths to text, which serialised models contain."""
        if isinstance(roots, (str, os.PathLike)) or roots is None:
            return roots if roots is None else (os.fspath(roots),)
        return tuple(os.fspath(root) for root in roots)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """True: a policy is part of the serialised chat model."""
        return True

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> MediaPolicy:
        """A copy; new values are validated as in the constructor."""
        if not update:
            return super().model_copy(deep=deep)
        return type(self)(**{**self.model_dump(), **update})

    def for_videos(self) -> MediaPolicy:
        """A copy of the policy whose `max_bytes` is the limit for videos."""
        return self.model_copy(update={"max_bytes": self.max_video_bytes})

    def allows_host(self, host: str) -> bool:
        """Whether a URL may name this host."""
        if self.allowed_hosts is None:
            return True
        host = host.lower().rstrip(".")
        return any(
            host == one.lstrip(".") or (one.startswith(".") and host.endswith(one))
            for one in map(str.lower, self.allowed_hosts)
        )

    def allows_address(self, address: str, port: int) -> bool:
        """Whether a connection to this IP address (text form) and port may be made."""
        ip = ipaddress.ip_address(address)
        if self.allow_private_hosts or is_public(ip):
            return True
        return ip.is_loopback and port in self.loopback_ports


def is_public(address: IPAddress) -> bool:
    """Whether an address is reachable on the public internet.

    IPv6 forms that carry an IPv4 address (mapped, 6to4, Teredo, NAT64) are judged by that address.
    """
    if any(address in network for network in _NEVER_PUBLIC if network.version == address.version):
        return False
    if isinstance(address, ipaddress.IPv6Address):
        embedded = _embedded_ipv4(address)
        if embedded is not None:
            return is_public(embedded)
    return address.is_global and not address.is_multicast


# Networks that some supported Python versions treat as public.
_NEVER_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",  # metadata and DNS of every Azure machine
            "64:ff9b:1::/48",  # NAT64 of a local network
            "fec0::/10",  # site-local
            "::/96",  # IPv4-compatible; IPv4-mapped addresses are elsewhere
            "::ffff:0:0:0/96",  # IPv4-translated (RFC 2765)
            "192.0.0.0/24",  # protocol assignments, and the metadata of some clouds
            "192.88.99.0/24",  # 6to4 relays, deprecated
            "3fff::/20",  # for documentation
            "5f00::/16",  # segment routing
        ),
    )
)

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _embedded_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
