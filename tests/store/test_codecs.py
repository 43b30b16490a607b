"""Codecs in the store: versions made of content, which never change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from telemetry.errors import ConflictError
from telemetry.store.codecs import (
    add_codec,
    codec_version,
    find_codec,
    list_codecs,
    read_codecs,
    read_sources,
)
from telemetry.store.pool import connect

Cursor = psycopg.Cursor[Any]
OLD, NEW = "function Decode() { return {x: 1}; }", "function Decode() { return {x: 2}; }  // đo"


@pytest.fixture
def cursor(database_url: str) -> Iterator[Cursor]:
    with connect(database_url, application="test", autocommit=True) as connection:
        yield connection.cursor()


def registry_version(cursor: Cursor) -> int:
    row = cursor.execute("SELECT version FROM registry_version").fetchone()
    assert row is not None
    return int(row[0])


def test_a_version_is_the_beginning_of_the_texts_hash() -> None:
    assert codec_version(NEW) == hashlib.sha256(NEW.encode()).hexdigest()[:16]


def test_the_newest_is_the_one_added_last(cursor: Cursor) -> None:
    assert add_codec(cursor, "acme", OLD, origin="acme/", added_by="an")
    assert add_codec(cursor, "acme", NEW, fresh=True)
    assert add_codec(cursor, "other", OLD)
    old, new = codec_version(OLD), codec_version(NEW)
    assert [(one.id, one.version, one.newest) for one in list_codecs(cursor)] == [
        ("acme", new, True), ("acme", old, False), ("other", old, True),
    ]  # fmt: skip
    assert [one.source for one in read_codecs(cursor)] == [NEW, OLD, OLD]
    newest, pinned = find_codec(cursor, "acme"), find_codec(cursor, "acme", old)
    assert newest is not None
    assert pinned is not None
    assert (newest.version, newest.fresh, newest.source) == (new, True, NEW)
    assert (pinned.origin, pinned.added_by, pinned.fresh) == ("acme/", "an", False)
    assert find_codec(cursor, "acme", "0" * 16) is None
    assert find_codec(cursor, "acne") is None


def test_adding_the_same_again_changes_nothing(cursor: Cursor) -> None:
    before = registry_version(cursor)
    assert add_codec(cursor, "acme", OLD)
    assert registry_version(cursor) == before + 1
    assert not add_codec(cursor, "acme", OLD, origin="elsewhere")
    assert registry_version(cursor) == before + 1
    with pytest.raises(ConflictError, match=rf"acme@{codec_version(OLD)} is stored with fresh = False"):
        add_codec(cursor, "acme", OLD, fresh=True)
    assert [one.origin for one in list_codecs(cursor)] == [""]


def test_sources_are_given_for_what_is_asked_and_there(cursor: Cursor) -> None:
    add_codec(cursor, "acme", OLD)
    add_codec(cursor, "acme", NEW)
    wanted = ("acme", codec_version(NEW))
    assert read_sources(cursor, [wanted, ("acme", "0" * 16)]) == {wanted: NEW}
    assert read_sources(cursor, []) == {}


@pytest.mark.parametrize(
    "change",
    [f"source = source || ' ', version = '{codec_version(OLD + ' ')}'", "fresh = true", "id = 'renamed'"],
)
def test_a_version_never_changes(cursor: Cursor, change: str) -> None:
    add_codec(cursor, "acme", OLD)
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="never changes"):
        cursor.execute(f"UPDATE codec SET {change}".encode())
    assert [one.source for one in read_codecs(cursor)] == [OLD]


def test_a_version_that_is_not_its_contents_is_refused(cursor: Cursor) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        cursor.execute("INSERT INTO codec (id, version, source) VALUES ('acme', '0123456789abcdef', 'x')")


def test_removing_one_is_told_to_whoever_decodes(cursor: Cursor) -> None:
    add_codec(cursor, "acme", OLD)
    before = registry_version(cursor)
    cursor.execute("DELETE FROM codec WHERE id = 'acme'")
    assert registry_version(cursor) == before + 1
    cursor.execute("DELETE FROM codec WHERE id = 'acme'")
    assert registry_version(cursor) == before + 1
