"""What can go wrong around an embedded server, told with its cure."""

from __future__ import annotations

from pathlib import Path

from telemetry.errors import QuantracError

_CURES = (
    ("No space left on device", "The disk is full: free some space and start again."),
    ("Address already in use", "The port is in use by another program: stop that program and start again."),
    ("Cannot assign requested address", "This machine does not have that address: choose another --host."),
    ("Cannot allocate memory", "Memory is short: stop other programs or lower shared_buffers in local.conf."),
    ("Read-only file system", "The folder is on a read-only file system: choose another one with --data."),
    (
        "Permission denied",
        "A file there belongs to another user: give the folder back to the user who runs Quantrac.",
    ),
    ("Too many open files", "Raise the limit of open files (ulimit -n) and start again."),
)
_TAIL_BYTES = 64 * 1024


class EmbeddedServerError(QuantracError):
    """An embedded server cannot be started or stopped; the message ends with the last lines of its log."""

    def __init__(self, problem: str, *, cure: str | None = None, log: str = "") -> None:
        cure = cure or next((text for sign, text in _CURES if sign in log), None)
        message = " ".join(part for part in (f"{problem}.", cure) if part)
        super().__init__(f"{message}\n{log}".rstrip())


def tail(*files: Path, lines: int = 12) -> str:
    """The last `lines` lines of each file, oldest file first; a file that cannot be read counts as empty."""
    found: list[str] = []
    for file in files:
        try:
            with file.open("rb") as stream:
                stream.seek(max(0, file.stat().st_size - _TAIL_BYTES))
                text = stream.read().decode(errors="replace")
        except OSError:
            continue
        found += [f"  {line}" for line in text.splitlines()[-lines:]]
    return "\n".join(found)
