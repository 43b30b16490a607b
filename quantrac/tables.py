"""Files of master data as rows: CSV and GeoJSON, each row with words for where it stands."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from telemetry.errors import UsageError

Row = dict[str, Any]
Place = str
"""Where a row is: ``row 3`` as a spreadsheet counts, the head is row 1; or ``feature 2``."""


def read_text(file: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
        UsageError: it is not there, is a folder, may not be read, or is in another encoding.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{file}: there is no such file") from None
    except IsADirectoryError:
        raise UsageError(f"{file}: is a folder; name a file in it") from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{file}: is not UTF-8 (byte {error.start + 1}); "
            "save it as UTF-8, in a spreadsheet as 'CSV UTF-8'"
        ) from None


def read_csv(file: Path, columns: tuple[str, ...]) -> Iterator[tuple[Place, Row | UsageError]]:
    """The rows of a CSV whose head names some of `columns`; cells that are empty are left out.

    The separator is the one of `,`, `;` and tab that the head has most of. A row with cells beyond the head
    is given as its fault.

    Raises:
        UsageError: the file cannot be read, or its head has other columns.
    """
    text = read_text(file)
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    try:
        names = [name.strip() for name in next(reader, [])]
        if not names or set(names) - set(columns) or len(set(names)) < len(names):
            raise UsageError(
                f"{file}: columns are {', '.join(columns)}, each once; got {', '.join(names) or 'none'}"
            )
        for number, cells in enumerate(reader, 2):
            if any(cells):
                yield f"row {number}", _row(names, cells)
    except csv.Error as error:
        raise UsageError(f"{file}, line {reader.line_num}: no CSV ({error})") from None


def _row(names: list[str], cells: list[str]) -> Row | UsageError:
    if any(cells[len(names) :]):
        return UsageError(
            f"{len(cells)} cells, but the head has {len(names)} columns; "
            "quote a cell that holds the separator"
        )
    return {name: cell for name, cell in zip(names, cells, strict=False) if cell}


def read_geojson(file: Path) -> Iterator[tuple[Place, Row | UsageError]]:
    """The points of a FeatureCollection: properties, `longitude` and `latitude`.

    Raises:
        UsageError: the file cannot be read, or is no FeatureCollection.
    """
    try:
        data = json.loads(read_text(file))
    except ValueError as error:
        raise UsageError(f"{file}: no JSON ({error})") from None
    features = data.get("features") if isinstance(data, dict) else None
    if not isinstance(features, list):
        raise UsageError(f"{file}: no GeoJSON FeatureCollection; its `features` must be a list of points")
    for number, feature in enumerate(features, 1):
        yield f"feature {number}", _point(feature)


def _point(feature: object) -> Row | UsageError:
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
    given = {key: value for key, value in properties.items() if value is not None}
    return {**given, "longitude": coordinates[0], "latitude": coordinates[1]}
