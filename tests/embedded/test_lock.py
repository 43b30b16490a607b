"""One `up` per data folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from quantrac.embedded import DataDirLock
from telemetry.errors import QuantracError, UsageError

HOLDER = """
import sys
from pathlib import Path
from quantrac.embedded import DataDirLock
lock = DataDirLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_folder_is_private(data_dir: Path) -> None:
    with DataDirLock(data_dir):
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


def test_second_holder_is_told_who_holds_it(data_dir: Path) -> None:
    with DataDirLock(data_dir), pytest.raises(UsageError) as refused, DataDirLock(data_dir):
        pass
    message = str(refused.value)
    assert f"{data_dir} is already run by process {os.getpid()} (since 20" in message
    assert message.endswith("Stop it first or choose another folder with --data / QUANTRAC_DATA_DIR.")


def test_released_lock_is_free(data_dir: Path) -> None:
    with DataDirLock(data_dir):
        pass
    with DataDirLock(data_dir):
        pass


def test_lock_dies_with_its_killed_holder(data_dir: Path, run_child) -> None:
    holder = run_child(HOLDER, data_dir)
    assert holder.line() == "held"
    with pytest.raises(UsageError, match=f"process {holder.process.pid} "):
        DataDirLock(data_dir).acquire()
    holder.kill()
    with DataDirLock(data_dir):
        assert (data_dir / "lock").read_text().startswith(f"{os.getpid()}\n")


def test_unusable_folder_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(QuantracError, match="--data / QUANTRAC_DATA_DIR"):
        DataDirLock(tmp_path / "file" / "data").acquire()
