"""Who belonged to whom when: periods that never overlap, whichever way the present value is changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Database = psycopg.Connection[dict[str, Any]]
DAY = timedelta(days=1)
START = datetime(2025, 1, 1, tzinfo=UTC)
Period = tuple[str, datetime | None, datetime | None]


def _one(database: Database, query: str, *values: Any) -> Any:
    row = database.execute(query, values).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return next(iter(row.values()))


@pytest.fixture
def stations(database: Database) -> dict[str, int]:
    return {
        code: _one(
            database,
            "INSERT INTO station (code, name, latitude, longitude) VALUES (%s, %s, 11, 107) RETURNING id",
            code,
            code.upper(),
        )
        for code in "abc"
    }


def _device(database: Database, station: int | None = None) -> int:
    return int(
        _one(
            database,
            "INSERT INTO device (dev_eui, station_id) VALUES"
            " (lpad((SELECT count(*) FROM device)::text, 16, '0'), %s) RETURNING id",
            station,
        )
    )


def _history(database: Database, device: int) -> list[Period]:
    rows = database.execute(
        "SELECT s.code, valid_from, valid_to FROM device_station_period JOIN station s ON s.id = station_id"
        " WHERE device_id = %s ORDER BY valid_from NULLS FIRST",
        (device,),
    ).fetchall()
    return [(row["code"], row["valid_from"], row["valid_to"]) for row in rows]


def test_a_move_leaves_old_readings_where_they_were_taken(
    database: Database, stations: dict[str, int]
) -> None:
    device = _device(database, stations["a"])
    before = _one(database, "SELECT version FROM registry_version")
    database.execute("UPDATE device SET station_id = %s WHERE id = %s", (stations["b"], device))
    first, second = _history(database, device)
    moved = first[2]
    assert moved is not None
    assert (first, second) == (("a", None, moved), ("b", moved, None))
    at = "SELECT station_at(%s, %s)"
    assert _one(database, at, device, moved - timedelta(microseconds=1)) == stations["a"]
    assert _one(database, at, device, moved) == stations["b"]
    assert _one(database, "SELECT version FROM registry_version") > before


def test_changes_of_one_transaction_leave_the_last(database: Database, stations: dict[str, int]) -> None:
    device = _device(database, stations["a"])
    with database.transaction():
        for code in ("b", "c", "a"):
            database.execute("UPDATE device SET station_id = %s WHERE id = %s", (stations[code], device))
    assert _history(database, device) == [("a", None, None)]


def test_a_removed_station_takes_its_periods_along(database: Database, stations: dict[str, int]) -> None:
    device = _device(database, stations["a"])
    database.execute("UPDATE device SET station_id = %s WHERE id = %s", (stations["b"], device))
    database.execute("DELETE FROM station WHERE code = 'b'")
    assert [code for code, *_ in _history(database, device)] == ["a"]
    assert _one(database, "SELECT station_id FROM device WHERE id = %s", device) is None


def test_overlapping_periods_are_refused_whoever_writes_them(
    database: Database, stations: dict[str, int]
) -> None:
    device = _device(database, stations["a"])
    with pytest.raises(psycopg.errors.ExclusionViolation):
        database.execute(
            "INSERT INTO device_station_period VALUES (%s, %s, %s, NULL)", (device, stations["b"], START)
        )


def test_codes_of_units_are_given_again_but_not_at_the_same_time(database: Database) -> None:
    insert = (
        "INSERT INTO admin_unit (code, name, level, valid_from, valid_to) VALUES (%s, %s, 'province', %s, %s)"
    )
    reform = date(2025, 7, 1)
    database.execute(insert, ("24", "Bắc Giang", None, reform))
    database.execute(insert, ("24", "Bắc Ninh", reform, None))
    named = "SELECT name FROM admin_unit WHERE id = unit_id_of(%s)"
    assert _one(database, named, "24@2025-06-30") == "Bắc Giang"
    assert _one(database, named, "24@2025-07-01") == _one(database, named, "24") == "Bắc Ninh"
    told = database.execute("SELECT unit_reference(u) AS it FROM admin_unit u ORDER BY valid_to").fetchall()
    assert [row["it"] for row in told] == ["24@2025-06-30", "24"]
    for start, end in ((None, None), (reform + DAY, reform + 2 * DAY)):
        with pytest.raises((psycopg.errors.ExclusionViolation, psycopg.errors.UniqueViolation)):
            database.execute(insert, ("24", "X", start, end))


def test_the_words_for_a_place_follow_its_unit(database: Database, stations: dict[str, int]) -> None:
    units = [
        _one(
            database,
            "INSERT INTO admin_unit (code, name, level) VALUES (%s, %s, 'province') RETURNING id",
            code,
            name,
        )
        for code, name in (("70", "Bình Phước"), ("75", "Đồng Nai"))
    ]
    said = []
    for unit, words in ((units[0], None), (units[1], None), (units[1], "gần cầu"), (units[0], None)):
        database.execute(
            "UPDATE station SET unit_id = %s, admin_unit = coalesce(%s, admin_unit) WHERE code = 'a'",
            (unit, words),
        )
        said.append(_one(database, "SELECT admin_unit FROM station WHERE code = 'a'"))
    assert said == ["Bình Phước", "Đồng Nai", "gần cầu", "gần cầu"]


_DAYS = st.none() | st.integers(0, 30)
_ASSIGNMENT = st.tuples(st.sampled_from(["a", "b", "c", None]), _DAYS, _DAYS)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(assignments=st.lists(_ASSIGNMENT, max_size=8))
def test_told_in_any_order_a_history_is_what_was_told_last(
    database: Database,
    stations: dict[str, int],
    assignments: Sequence[tuple[str | None, int | None, int | None]],
) -> None:
    device = _device(database)
    days: dict[int, str | None] = dict.fromkeys(range(-1, 31))
    for code, since, until in assignments:
        if since is not None and until is not None and since >= until:
            continue
        database.execute(
            "SELECT set_belonging('device_station', %s, %s, %s, %s)",
            (
                device,
                code and stations[code],
                None if since is None else START + since * DAY,
                None if until is None else START + until * DAY,
            ),
        )
        for day in days:
            if (since is None or day >= since) and (until is None or day < until):
                days[day] = code
    codes = {id_: code for code, id_ in stations.items()}
    ids = {day: _one(database, "SELECT station_at(%s, %s)", device, START + day * DAY) for day in days}
    assert {day: codes.get(id_) for day, id_ in ids.items()} == days
    present = _one(database, "SELECT station_id FROM device WHERE id = %s", device)
    assert codes.get(present) == days[30]
    history = _history(database, device)
    assert all(one[2] != other[1] or one[0] != other[0] for one, other in pairwise(history))
