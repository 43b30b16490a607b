"""The settings and the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from quantrac.all_settings import ALL_SETTINGS
from quantrac.context import Context
from telemetry.settings import unknown_names

from .finding import Finding

_LEAST_FREE = 2 * 1024**3


def check_settings() -> Iterator[Finding]:
    unknown = unknown_names(ALL_SETTINGS)
    for sentence in unknown:
        yield Finding("warning", "settings", sentence, "Correct or remove it; it has no effect.")
    if not unknown:
        yield Finding("ok", "settings", "every QUANTRAC_ variable is known")


def check_disk(context: Context) -> Iterator[Finding]:
    folder = context.common.data_dir
    if not folder.exists():
        yield Finding("ok", "disk", f"{folder} does not exist yet")
        return
    free = shutil.disk_usage(folder).free
    text = f"{free / 1024**3:.1f} GiB free under {folder}"
    if free < _LEAST_FREE:
        yield Finding("warning", "disk", text, "Make room: a full disk stops the database and the broker.")
    else:
        yield Finding("ok", "disk", text)
