"""Files of master data as rows: CSV and GeoJSON, each row with its place in the file."""

from __future__ import annotations

import codecs
import csv
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from telemetry.errors import UsageError

Row = dict[str, Any]
LARGEST_GEOJSON = 50_000_000
"""Letters; a GeoJSON is read at once, a CSV row by row."""
_CHUNK = 1 << 20
# A spreadsheet takes a cell that begins so for a formula: https://owasp.org/www-community/attacks/CSV_Injection
# The apostrophes before tell a guarded text from one that had an apostrophe itself.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Place(NamedTuple):
    """Where a row is: `number` as a spreadsheet counts (the head is row 1), `line` as an editor does."""

    number: int
    line: int | None = None

    def __str__(self) -> str:
        if self.line is None:
            return f"feature {self.number}"
        return f"row {self.number}" + (f" (line {self.line})" if self.line != self.number else "")


class Table(NamedTuple):
    """`columns` that the file has, and its rows without the cells that are empty; a row may be its fault."""

    columns: frozenset[str]
    rows: Iterator[tuple[Place, Row | UsageError]]


def folded(word: str) -> str:
    """A heading without case, marks and spaces: `Vĩ độ` is ``vi_do``."""
    plain = unicodedata.normalize("NFD", word.lower().replace("đ", "d"))
    bare = "".join(sign for sign in plain if not unicodedata.combining(sign))
    return re.sub(r"[^a-z0-9]+", "_", bare).strip("_")


def read_text(file: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
        UsageError: it is not there, is a folder, may not be read, or is in another encoding.
    """
    _check_text(file)
    return file.read_text(encoding="utf-8-sig")


def read_table(file: Path, columns: tuple[str, ...], aliases: Mapping[str, str]) -> Table:
    """A CSV whose head names some of `columns`, or a GeoJSON of points; `aliases` are folded headings.

    The separator of a CSV is the one of `,`, `;` and tab that the head has most of. Texts are brought to
    Unicode's composed form (NFC), cells lose the spaces around them. A row with cells beyond the head is
    given as its fault.

    Raises:
        UsageError: the file cannot be read, or its head has other columns; also while rows are taken.
    """
    if file.suffix.lower() in (".geojson", ".json"):
        return _geojson(file, columns, aliases)
    _check_text(file)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        head = stream.readline()
    rows = _csv(file, max(",;\t", key=head.count))
    _, cells = next(rows, (Place(1, 1), []))
    names = [aliases.get(folded(cell), cell) for cell in cells]
    if not names or set(names) - set(columns) or len(set(names)) < len(names):
        raise UsageError(f"{file}: columns are {', '.join(columns)}, each once; got {_told(names)}")
    return Table(frozenset(names), ((place, _row(names, cells)) for place, cells in rows if any(cells)))


def _told(names: list[str]) -> str:
    return ", ".join(name or "one without a name" for name in names) or "none: the file is empty"


def _csv(file: Path, delimiter: str) -> Iterator[tuple[Place, list[str]]]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter)
        number = line = 0
        while True:
            number, line = number + 1, reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise UsageError(f"{file}, line {reader.line_num}: no CSV ({error})") from None
            yield Place(number, line), [_cell(cell) for cell in cells]


def guarded(text: str) -> str:
    """The text as a cell of CSV that no spreadsheet takes for a formula; reading the file takes that back."""
    return f"'{text}" if _FORMULA.match(text) else text


def _cell(text: str) -> str:
    text = unicodedata.normalize("NFC", text).strip()
    return text[1:].strip() if text.startswith("'") and _FORMULA.match(text) else text


def _row(names: list[str], cells: list[str]) -> Row | UsageError:
    if any(cells[len(names) :]):
        return UsageError(
            f"{len(cells)} cells, but the head has {len(names)} columns; "
            "quote a cell that holds the separator"
        )
    return {name: cell for name, cell in zip(names, cells, strict=False) if cell}


def _check_text(file: Path) -> None:
    """Read it once, so that rows come from a file that is UTF-8 to its end."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                if done == 0 and (chunk.startswith(_UTF_16) or b"\0" in chunk[:1000]):
                    raise UsageError(
                        f"{file}: is UTF-16 (a spreadsheet's 'Unicode Text'); save it as UTF-8, "
                        "in a spreadsheet as 'CSV UTF-8'"
                    )
                pending = len(decoder.getstate()[0])
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError as error:
                    raise _no_utf_8(file, done - pending + error.start + 1) from None
                done += len(chunk)
            if decoder.getstate()[0]:
                raise _no_utf_8(file, done)
    except FileNotFoundError:
        raise UsageError(f"{file}: there is no such file") from None
    except IsADirectoryError:
        raise UsageError(f"{file}: is a folder; name a file in it") from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from None


def _no_utf_8(file: Path, byte: int) -> UsageError:
    return UsageError(
        f"{file}: is not UTF-8 (byte {byte}), perhaps Windows-1258; save it as UTF-8, "
        "in a spreadsheet as 'CSV UTF-8'"
    )


def _geojson(file: Path, columns: tuple[str, ...], aliases: Mapping[str, str]) -> Table:
    if "longitude" not in columns:
        raise UsageError(f"{file}: a CSV is needed; these have no place on a map")
    text = read_text(file)
    if len(text) > LARGEST_GEOJSON:
        raise UsageError(f"{file}: is larger than {LARGEST_GEOJSON // 1_000_000} MB; write a CSV, or several")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file}: no JSON ({error})") from None
    features = data.get("features") if isinstance(data, dict) else None
    if not isinstance(features, list):
        raise UsageError(f"{file}: no GeoJSON FeatureCollection; its `features` must be a list of points")
    # A feature may lack what another has, so none is emptied by what it does not say.
    points = ((Place(number), _point(feature, aliases)) for number, feature in enumerate(features, 1))
    return Table(frozenset(), points)


def _point(feature: object, aliases: Mapping[str, str]) -> Row | UsageError:
    if not isinstance(feature, dict):
        return UsageError("a GeoJSON Feature is needed")
    geometry, properties = feature.get("geometry"), feature.get("properties")
    if not isinstance(geometry, dict) or geometry.get("type") != "Point":
        return UsageError("geometry: a Point is needed")
    coordinates = geometry.get("coordinates")
    if not isinstance(coordinates, list) or len(coordinates) < 2:
        return UsageError("geometry.coordinates: [longitude, latitude] is needed")
    if not isinstance(properties, dict):
        return UsageError("properties: missing; code and name belong there")
    given = {
        aliases.get(folded(key), key): _composed(value)
        for key, value in properties.items()
        if value is not None
    }
    return {**given, "longitude": coordinates[0], "latitude": coordinates[1]}


def _composed(value: Any) -> Any:
    return unicodedata.normalize("NFC", value).strip() if isinstance(value, str) else value
