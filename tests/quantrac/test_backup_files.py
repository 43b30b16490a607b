"""The files of a backup and of a restore, without a database."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from quantrac.backup.archive import writing
from quantrac.backup.beside import collect, put_back
from quantrac.backup.embedded import empty_database
from quantrac.backup.restore import Course, Stage
from quantrac.context import Context
from telemetry.errors import QuantracError, UsageError


def test_a_folder_too_large_for_codecs_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRAC_CODECS_DIR", str(tmp_path))
    with (tmp_path / "disk.img").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(QuantracError, match="more than 64 MiB"):
        collect(Context(tmp_path))
    with (tmp_path / "disk.img").open("wb") as file:
        file.truncate(1)
    denied = PermissionError(13, "Permission denied", "its name")
    monkeypatch.setattr(Path, "read_bytes", Mock(side_effect=denied))
    with pytest.raises(QuantracError, match="its name: cannot be read"):
        collect(Context(tmp_path))


def test_files_beside_stay_inside_and_are_named_when_they_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "restored").mkdir()
    (tmp_path / "restored" / "codecs").symlink_to(tmp_path.parent)
    with pytest.raises(QuantracError, match="lies outside"):
        put_back({"codecs/x.js": b""}, tmp_path, embedded=False)
    (tmp_path / "restored" / "quantrac.toml").mkdir()
    with pytest.raises(QuantracError, match=r"quantrac\.toml: cannot be written"):
        put_back({"quantrac.toml": b""}, tmp_path, embedded=False)


def test_a_backup_that_another_one_finished_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, part, real = tmp_path / "g.backup", tmp_path / "g.backup.part", fcntl.flock

    def finished_just_before(file: Any, operation: int) -> None:
        if not path.exists():
            part.write_bytes(b"whole")
            part.replace(path)
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", finished_just_before)
    with pytest.raises(UsageError, match="is there already"), writing(path, force=False):
        pass
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("after", [Stage.BEFORE, Stage.LOADED, Stage.WHOLE])
def test_an_embedded_database_stays_from_the_moment_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: Stage
) -> None:
    class Server:
        def __init__(self, folder: Path) -> None:
            self.home = folder / "postgres"

        def start(self) -> str:
            self.home.mkdir()
            return ""

        def stop(self) -> None:
            pass

    monkeypatch.setattr("quantrac.backup.embedded.EmbeddedPostgres", Server)
    manifest, course = Mock(timescaledb=None), Course()

    def restoring() -> None:
        with empty_database(tmp_path, manifest, course):
            course.stage = after
            raise QuantracError("settings are wrong")

    with pytest.raises(QuantracError, match="settings"):
        restoring()
    assert (tmp_path / "postgres").exists() == (after is Stage.WHOLE)
    assert course.stage is (Stage.WHOLE if after is Stage.WHOLE else Stage.BEFORE)
