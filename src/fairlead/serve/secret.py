"""The secret of the prediction log: the key under which redacted values are hashed."""

import fcntl
import os
import secrets
from pathlib import Path

__all__ = ["log_key"]

SIZE = 32


def log_key(folder: Path) -> bytes:
    """32 random bytes beside the log, for this user only; made by the first gateway. As long as it
    stays, equal values have equal hashes; without it nobody can link them to anything."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(folder / "redaction.key", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        key = os.read(fd, SIZE)
        if len(key) < SIZE:
            key = secrets.token_bytes(SIZE)
            os.pwrite(fd, key, 0)
            os.fsync(fd)
        return key
    finally:
        os.close(fd)
