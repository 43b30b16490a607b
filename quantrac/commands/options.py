"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Data folder of `quantrac up`, for its database and broker; QUANTRAC_DATA_DIR when not given.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
ParentPipe = Annotated[int | None, typer.Option("--parent-pipe", hidden=True)]
