"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from telemetry.errors import UsageError

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Data folder of `quantrac up`, for its database and broker; QUANTRAC_DATA_DIR when not given.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="End with status 1 when an alarm was missed, false or lingers.")
]
ParentPipe = Annotated[int | None, typer.Option("--parent-pipe", hidden=True)]


def speed_of(text: str) -> float | Literal["max"]:
    """What `--speed` says. Raises `UsageError` for anything but a number or max."""
    if text == "max":
        return "max"
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--speed: {text!r} is neither a number nor max") from None
