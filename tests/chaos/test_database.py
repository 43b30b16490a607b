"""The database fails: it is away, full, slow, or says no at the last moment."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.wait import until

from .conftest import copy
from .stage import Stage

pytestmark = pytest.mark.chaos


async def backlog(stage: Stage, count: int) -> None:
    """Publish and wait until the process has it, which cannot store it."""
    before = stage.received()
    await stage.publish(count)
    await until(lambda: stage.received() >= before + count)


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_stopped_for_a_while(stage: Stage, end: str) -> None:
    await stage.start()
    async with stage.streaming(rate=300):
        for _ in range(2):
            await stage.reaches(stage.database.stored() + 200)
            await asyncio.to_thread(getattr(stage.database, end))
            before = stage.received()
            await until(lambda: stage.received() >= before + 300)  # noqa: B023
            await asyncio.to_thread(stage.database.start)
    await stage.assert_survived()


async def test_away_when_ingest_starts(stage: Stage) -> None:
    await stage.start()
    stage.program.kill()
    await asyncio.to_thread(stage.database.stop)
    await stage.publish(300)
    stage.spawn()
    await stage.awake()
    await asyncio.to_thread(stage.database.start)
    await stage.connected()
    await stage.assert_survived()


async def test_restarted_fast(stage: Stage) -> None:
    await stage.start()
    async with stage.streaming(rate=500):
        for _ in range(5):
            await stage.reaches(stage.database.stored() + 200)
            await asyncio.to_thread(stage.database.stop)
            await asyncio.to_thread(stage.database.start)
    await stage.assert_survived()


async def test_out_of_connections(stage: Stage) -> None:
    await asyncio.to_thread(stage.database.stop)
    stage.database.configure(max_connections=12)
    await asyncio.to_thread(stage.database.start)
    await stage.start()
    await stage.publish(200)
    await stage.reaches(200)
    with stage.database.exhausted():
        await backlog(stage, 500)
        assert stage.database.stored() == 200
    await stage.assert_survived()


@pytest.mark.parametrize(
    "error", ["40001", "40P01", "53100", "57014"], ids=["serialization", "deadlock", "quota", "canceled"]
)
async def test_commits_that_fail(stage: Stage, error: str) -> None:
    """Half of them for a while, by the hash of the transaction's number; then all of them, then none."""
    stage.database.fail_commits("hashint8(pg_current_xact_id()::text::bigint) & 1 = 0", error)
    await stage.start()
    await stage.publish(1000)
    await stage.reaches(1000)
    stage.database.heal_commits()
    stage.database.fail_commits("true", error)
    await backlog(stage, 500)
    assert stage.database.stored() == 1000
    stage.database.heal_commits()
    await stage.assert_survived()
    assert not stage.database.ask("SELECT 1 FROM reject WHERE reason <> 'held_up'")


async def test_a_commit_that_fails_for_one_row_costs_only_that(stage: Stage) -> None:
    stage.database.fail_commits("NEW.f_cnt = 1 AND NEW.device_id %% 50 = 0", "23514")
    await stage.start()
    await stage.publish(1000)
    await stage.assert_survived()
    assert stage.database.ask("SELECT DISTINCT reason, count(*) FROM reject GROUP BY 1") == [
        ("not_storable", 4)
    ]


@pytest.mark.parametrize("ending", ["answer lost", "backend ended"])
async def test_a_commit_in_doubt(stage: Stage, ending: str) -> None:
    """The connection goes while COMMIT is under way: once after it counted, once before."""
    proxy = await stage.database_proxy()
    await stage.start(QUANTRAC_DATABASE_URL=stage.database.through(proxy.port))
    gate = stage.gate()
    await backlog(stage, 500)
    backend = await gate.waited_for()
    stored = stage.database.stored()
    if ending == "answer lost":
        proxy.mute_downstream()
        gate.open()
        await stage.reaches(stored + 1)
        await proxy.cut()
        proxy.mend()
    else:
        stage.database.ask("SELECT pg_terminate_backend(%s, 5000)", backend)
        gate.open()
    await stage.assert_survived()
    assert not stage.database.ask("SELECT 1 FROM reject")


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of that size in `folder`; skips where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk needs the right to mount tmpfs (root): {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all the space that is left; the file that does."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, 2**12):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return ballast


async def test_a_full_disk_under_the_tables(stage: Stage, tmp_path: Path) -> None:
    """Every write fails, the server stays."""
    with small_disk(tmp_path / "disk", 48) as disk:
        (disk / "space").mkdir()
        stage.database.move_to_tablespace(disk / "space")
        await stage.start()
        await stage.publish(500)
        await stage.reaches(500)
        ballast = fill(disk)
        await backlog(stage, 2000)
        await until(lambda: "could not extend file" in stage.database.log())
        ballast.unlink()
        await stage.assert_survived()
        stage.database.close()


async def test_a_full_disk_under_the_whole_server(stage: Stage, pristine: Path, tmp_path: Path) -> None:
    """The log of transactions finds no room, so the server ends itself and does not come up either."""
    with small_disk(tmp_path / "disk", 160) as disk:
        stage.database.close()
        stage.database = copy(pristine, disk)
        await asyncio.to_thread(stage.database.start)
        await stage.start()
        await stage.publish(500)
        await stage.reaches(500)
        ballast = fill(disk)
        await stage.publish(500)
        stage.database.write_log_until_it_ends()
        ballast.unlink()
        await asyncio.to_thread(stage.database.start)
        await stage.assert_survived()
        stage.database.close()


async def test_a_slow_database(stage: Stage) -> None:
    """Every piece of the conversation takes 20 ms longer, either way."""
    proxy = await stage.database_proxy()
    await stage.start(QUANTRAC_DATABASE_URL=stage.database.through(proxy.port))
    proxy.delay = 0.02
    await stage.publish(3000)
    await stage.assert_survived()
