"""The answer sheet of a run, as a file: what was so, for those who are to find it (`simulators.answers`)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
from pydantic import Field, ValidationError

from telemetry.errors import UsageError

from .causes import causes
from .truths import Crossing, FaultKind
from .yamlfile import Model, Text

VERSION: Literal[2] = 2


class Passage(Model):
    """Once above a level, or near it: within the margin nobody can tell.

    From `earliest` on an alarm is no false one, by `latest` it must be there if the passage is `sure`, and
    after `gone` a new one is false.

    `rising_at` is None where the run began above the level, `falling_at` and `gone` where it ended there.
    """

    rising_at: datetime | None
    falling_at: datetime | None
    earliest: datetime | None
    latest: datetime
    gone: datetime | None
    peak: float
    sure: bool


class AnswerLevel(Model):
    """A level of the station; its passages in their order, none where it was never near.

    `margin` is how far sensors may be off there, in the metric's unit.
    """

    level: int
    label: str
    value: float
    margin: float
    passages: tuple[Passage, ...]


class Target(Model):
    """A sensor, what it measures where, and the levels that hold at its station."""

    dev_eui: str
    station: str
    point: str
    metric: str
    levels: tuple[AnswerLevel, ...]


class Lie(Model):
    """A sensor said what was not so, or nothing: of one `metric`, or of all. `ends` is None at the end."""

    dev_eui: str
    kind: FaultKind
    metric: str | None
    begins: datetime
    ends: datetime | None


class Hazard(Model):
    """What a rule is to find; `found_by` is the kind of rule that could today, None while none can.

    At a `station`: `metric` went beyond `limit`, upwards, downwards or within an hour as `crossed` says, and
    `peak` is how far; `devices` measure it there. Or a failure of `gateways`. `begins` and `ends` are None
    where the run began or ended in it.
    """

    kind: str
    name: Text
    station: str | None = None
    metric: str | None = None
    crossed: Crossing | None = None
    limit: float | None = None
    peak: float | None = None
    devices: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    begins: datetime | None
    ends: datetime | None
    found_by: Literal["threshold"] | None


class AnswerSheet(Model):
    """`tolerance_s`: so many seconds of the messages' time an alarm may come late, since sensors send now and
    then, frames are lost and rules wait. It is in `latest` and `gone` already."""

    version: Literal[2] = VERSION
    scenario: str
    seed: int
    starts: datetime
    ends: datetime
    tolerance_s: float = Field(ge=0)
    targets: tuple[Target, ...]
    lies: tuple[Lie, ...] = ()
    hazards: tuple[Hazard, ...] = ()


class _Versioned(msgspec.Struct):
    version: int = VERSION


def write_sheet(path: Path, sheet: AnswerSheet) -> None:
    """The sheet as JSON.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        path.write_text(sheet.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"answers: cannot write {path}: {error.strerror}") from None


def read_answers(path: Path) -> AnswerSheet:
    """What `write_sheet` wrote.

    Raises:
        UsageError: it cannot be read, is of another version or no answer sheet; one line for each fault.
    """
    try:
        text = path.read_bytes()
        version = msgspec.json.decode(text, type=_Versioned).version
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: no answer sheet: {error}") from None
    if version != VERSION:
        raise UsageError(
            f"{path}: version {version}, and this program reads {VERSION}; "
            "write the sheet again with `quantrac simulate --answers`"
        )
    try:
        return AnswerSheet.model_validate_json(text)
    except ValidationError as error:
        faults = causes(error.errors(), AnswerSheet)
        said = (f"{path}: {'.'.join(map(str, loc)) or 'content'}: {why}" for loc, why in faults)
        raise UsageError("\n".join(said)) from None
