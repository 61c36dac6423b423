"""Encryption at rest, of blobs and of webhooks' secrets: AES-256-GCM (NIST SP 800-38D), with keys that can be exchanged
while the service runs.

A sealed blob is `LLS1`, the length of the key's id, the id, a nonce of 12 random bytes, then ciphertext and tag. What
stands before the ciphertext and the name of the blob are authenticated with it, so no blob can be passed off as another
one. One key may seal 2^32 blobs (random nonces, SP 800-38D section 8.3); at one a second that is 136 years.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.analysis.errors import BlobUnreadableError, SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_MAGIC = b"LLS1"
_NONCE_BYTES = 12
_TAG_BYTES = 16
#: AES-256.
KEY_BYTES = 32
#: Characters of a key's id: it stands in every blob.
MAX_ID_CHARS = 64
#: In place of a last key: blobs that were stored before encryption was switched on are read, too.
PLAIN = "plain"

_FORM = "BLOB_KEYS: it must be “id:base64 of 32 bytes”, several with commas, the newest first"


@dataclass(frozen=True, slots=True)
class Sealing:
    """Seals with the first key, opens with whichever the blob names. Without keys, blobs are stored as they are."""

    keys: dict[str, AESGCM] = field(default_factory=dict)
    reads_plain: bool = True

    def seal(self, name: str, content: bytes) -> bytes:
        """The content as it is to be stored under `name`."""
        for key_id, cipher in self.keys.items():
            head = _head(key_id)
            nonce = os.urandom(_NONCE_BYTES)
            return head + nonce + cipher.encrypt(nonce, content, head + name.encode())
        return content

    def is_newest(self, stored: bytes) -> bool:
        """Whether sealing it again would change nothing: the first key has sealed it, or there is none."""
        return not self.keys or stored.startswith(_head(next(iter(self.keys))))

    def open(self, name: str, stored: bytes) -> bytes:
        """What was sealed under `name`.

        Raises:
            BlobUnreadableError: the key is not among ours, or the blob was changed, exchanged or never sealed.
        """
        if not stored.startswith(_MAGIC):
            if self.reads_plain:
                return stored
            raise BlobUnreadableError("What is stored is not encrypted, and only what is encrypted is trusted.")
        from cryptography.exceptions import InvalidTag

        head = stored[: len(_MAGIC) + 1 + stored[len(_MAGIC)]] if len(stored) > len(_MAGIC) else stored
        key_id = head[len(_MAGIC) + 1 :].decode("utf-8", "replace")
        cipher = self.keys.get(key_id)
        if cipher is None:
            raise BlobUnreadableError(f"What is stored was encrypted with the key “{key_id}”, which BLOB_KEYS lacks.")
        nonce = stored[len(head) : len(head) + _NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, stored[len(head) + _NONCE_BYTES :], head + name.encode())
        except (InvalidTag, ValueError) as error:
            raise BlobUnreadableError(
                f"What is stored does not fit the key “{key_id}”: another key has this id, or it was changed."
            ) from error


def _head(key_id: str) -> bytes:
    return _MAGIC + bytes((len(key_id),)) + key_id.encode()


def sealing_from(setting: str) -> Sealing:
    """Reads BLOB_KEYS: empty, or `id:base64,…` with the newest first and perhaps `plain` last.

    Raises:
        SettingsError: it has another form; the message never holds a key.
    """
    entries = [entry.strip() for entry in setting.split(",")] if setting.strip() else []
    reads_plain = not entries or entries[-1] == PLAIN
    if entries and entries[-1] == PLAIN:
        entries.pop()
        if not entries:
            raise SettingsError(_FORM)
    keys = dict(_key(entry) for entry in entries)
    if len(keys) != len(entries):
        raise SettingsError("BLOB_KEYS: two keys have the same id")
    return Sealing(keys, reads_plain)


def _key(entry: str) -> tuple[str, AESGCM]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key_id, _, text = entry.partition(":")
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    named = key_id.isascii() and key_id.isprintable() and 0 < len(key_id) <= MAX_ID_CHARS and key_id != PLAIN
    # Thirty-two equal bytes are nobody's random key.
    if not named or len(key) != KEY_BYTES or len(set(key)) == 1:
        raise SettingsError(_FORM)
    return key_id, AESGCM(key)
