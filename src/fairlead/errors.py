"""Every error Fairlead raises, sorted by what the caller can do about it.

FairleadError
├── Invalid       the input is wrong: change it and call again
├── Missing       the named thing does not exist
├── Forbidden     whoever asks may not: show another token, or ask somebody who may
├── Conflict      somebody else changed it first: read again, then retry
├── Unavailable   an outside engine did not answer: retry later
└── Corrupt       stored bytes do not match their digest: stop and restore
"""

__all__ = ["Conflict", "Corrupt", "FairleadError", "Forbidden", "Invalid", "Missing", "Unavailable"]


class FairleadError(Exception):
    """The root. `str(error)` says what was seen; `hint` tells the reader what to do next.

    `pointer` names the offending field as a JSON pointer ("/inputs/0/data") where there is one.
    """

    def __init__(self, message: str, *, hint: str = "", pointer: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.pointer = pointer


class Invalid(FairleadError):
    """The input is wrong; `hint` says how to change it."""


class Missing(FairleadError):
    """The named thing does not exist, or an optional dependency is not installed."""


class Forbidden(FairleadError):
    """Whoever asks may not; `hint` says who may, or what is missing."""


class Conflict(FairleadError):
    """Somebody else changed it first: read again, then retry."""


class Unavailable(FairleadError):
    """An outside engine did not answer: retry later."""


class Corrupt(FairleadError):
    """Stored bytes do not match their digest: stop and restore."""
