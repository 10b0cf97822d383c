"""What is a key of the store, and what is not.

Belongs here: the limits of keys. Does not: what the keys of published values mean (`places`).
"""

from __future__ import annotations

from collections.abc import Iterable

from aura.tiers.errors import InvalidPartError

RESERVED = "\0"
"""Keys that start so are the store's own (measurements); they are never visible."""
MAX_KEY_BYTES = 4096


def check_keys(puts: Iterable[str], deletes: Iterable[str]) -> None:
    """Refuse keys that cannot be stored, and a key that is both put and deleted.

    Raises:
        InvalidPartError: With the key.
    """
    written = set(puts)
    for key in (*written, *deletes):
        if not key or key.startswith(RESERVED) or _bytes(key) > MAX_KEY_BYTES:
            remedy = f"A key is 1 to {MAX_KEY_BYTES} bytes of UTF-8 and does not start with NUL."
            raise InvalidPartError(f"{key[:80]!r} is not a key", key=key[:80], remedy=remedy)
    for key in deletes:
        if key in written:
            raise InvalidPartError(f"The key {key!r} is both put and deleted", key=key, remedy="Do one of them.")


def _bytes(key: str) -> int:
    """Bytes in UTF-8; too many for a key with half of a surrogate pair, which UTF-8 cannot say."""
    try:
        return len(key.encode())
    except UnicodeEncodeError:
        return MAX_KEY_BYTES + 1
