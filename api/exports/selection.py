"""What an export holds, and in which form."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import ConfigDict, Field

from telemetry.model import Quality

from ..fields import Body, DevEui, Moment, StationCode

What = Literal["readings", "rollups", "transitions"]
Format = Literal["csv", "ndjson", "parquet", "xlsx"]

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)


class Selection(Body):
    """Empty lists select all. `from` is in, `to` is out; an export without `to` ends when it is asked for."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, frozen=True)

    what: What = Field(
        default="readings", description="readings; rollups, of hours or days; transitions of alerts."
    )
    format: Format = "csv"
    start: Moment | None = Field(default=None, alias="from")
    end: Moment | None = Field(default=None, alias="to")
    devices: tuple[DevEui, ...] = Field(default=(), max_length=10_000)
    stations: tuple[StationCode, ...] = Field(default=(), max_length=10_000)
    metrics: tuple[str, ...] = Field(default=(), max_length=100)
    quality: tuple[Quality, ...] = Field(default=(), max_length=5, description="Of readings only.")
    resolution: Literal["1h", "1d"] = Field(default="1h", description="Of rollups.")
    zone: Literal["Z", "+07:00"] = Field(default="Z", description="Of times in CSV, NDJSON and XLSX.")
    bom: bool = Field(default=False, description="CSV with the mark by which Excel knows UTF-8.")

    @property
    def since(self) -> datetime:
        """`from`, or before anything that is stored."""
        return self.start or EARLIEST

    def until(self, now: datetime) -> Selection:
        """This selection with an end, so that going on later means the same rows."""
        return self if self.end else self.model_copy(update={"end": now})
