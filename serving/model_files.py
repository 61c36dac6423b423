"""Where a network lies in a models' folder, and what tells its file from another under the same number."""

from __future__ import annotations

import hashlib
from pathlib import Path


def network_file(models: Path, network: str, version: int) -> Path:
    """The SavedModel of a network's version, as TensorFlow Serving expects it."""
    return models / network / str(version) / "saved_model.pb"


def checksum(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises OSError where it cannot be read."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
