"""Style, scripts and icons, served under an address that changes with their content.

Modules import each other by relative address, so the version stands in the folder: what a browser once fetched never
has to be asked for again, and a new release is seen at once.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

STATIC = Path(__file__).parent / "static"

#: What all assets together may weigh, in bytes: a page has to open on a slow phone. They are kept in memory.
ASSET_BUDGET_BYTES = 150_000

#: One year, in seconds: the longest a cache is asked to keep what cannot change.
IMMUTABLE_AGE_S = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent."""

    content: bytes
    media_type: str


@cache
def all_assets() -> Mapping[str, Asset]:
    """Every asset by name."""
    # Not every system knows JavaScript by its standard name (RFC 9239), and browsers insist on it for modules.
    mimetypes.add_type("text/javascript", ".js")
    return MappingProxyType(
        {
            path.name: Asset(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream")
            for path in sorted(STATIC.iterdir())
            if path.is_file()
        }
    )


@cache
def asset_version() -> str:
    """Twelve hexadecimal digits over the names and contents of all assets."""
    digest = hashlib.sha256()
    for name, asset in all_assets().items():
        digest.update(name.encode() + b"\0" + asset.content)
    return digest.hexdigest()[:12]
