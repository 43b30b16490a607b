"""What a backup says of itself."""

from __future__ import annotations

from datetime import datetime

import msgspec

from telemetry.errors import UsageError

FORMAT = 1


class Table(msgspec.Struct, frozen=True):
    """Rows of a table as of the snapshot; see `quantrac.backup.tables` for the checksum."""

    rows: int
    checksum: str


class Part(msgspec.Struct, frozen=True):
    """A file in the backup."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`tables` by their names with schema; `timescaledb` is the extension's version, None without it; all
    lies in the schema `namespace` and belongs to the role `owner`.
    """

    format: int = FORMAT
    quantrac: str
    schema: str
    edition: str
    timescaledb: str | None
    postgresql: int
    pg_dump: str
    owner: str
    namespace: str
    began_at: datetime
    snapshot_at: datetime
    ended_at: datetime
    tables: dict[str, Table]
    parts: dict[str, Part]
    left_out: tuple[str, ...]

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())


def read(text: bytes, where: str) -> Manifest:
    """Raises `UsageError` when a newer Quantrac wrote it, or something else did."""
    try:
        number = msgspec.json.decode(text, type=dict)["format"]
        if isinstance(number, int) and number > FORMAT:
            raise UsageError(
                f"{where}: a newer Quantrac made this backup (format {number}, this one reads {FORMAT}). "
                "Restore it with that one."
            )
        return msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, KeyError) as error:
        raise UsageError(f"{where}: its manifest is damaged ({error}). Take another backup.") from None
