"""What a worker process has, and that it ends when it should."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from decoders.javascript.workers import Call, JsWorkers
from telemetry.errors import QuantracError
from tests.wait import until

GOOD = "function decodeUplink({bytes}) { return {data: {first: bytes[0]}}; }"


async def _ended(pid: int) -> None:
    def gone() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    await until(gone)


def test_it_inherits_neither_environment_nor_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRAC_SECRET_KEY", "not for codecs")
    with socket.create_server(("127.0.0.1", 0)) as server, JsWorkers() as workers:
        os.set_inheritable(server.fileno(), True)
        workers.start()
        [pid] = workers.pids()
        proc = Path(f"/proc/{pid}")
        names = {line.split(b"=")[0] for line in (proc / "environ").read_bytes().split(b"\0") if line}
        assert names <= {b"TZ", b"LC_ALL", b"LD_LIBRARY_PATH"}
        files = {fd.name: str(fd.readlink()) for fd in (proc / "fd").iterdir()}
        assert files.keys() == {"0", "1", "2"}
        assert all(target.startswith("pipe:") for target in files.values())
        assert (proc / "cwd").readlink() == Path("/")


def test_its_limits() -> None:
    with JsWorkers() as workers:
        workers.start()
        [pid] = workers.pids()
        process = psutil.Process(pid)
        assert process.rlimit(psutil.RLIMIT_NOFILE) == (3, 3)
        assert process.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert process.rlimit(psutil.RLIMIT_NPROC) == (0, 0)
        assert process.rlimit(psutil.RLIMIT_AS) == (1 << 30, 1 << 30)
        assert 0 < process.rlimit(psutil.RLIMIT_CPU)[0] < 60


def _worker_pids() -> set[int]:
    found = set()
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # ended meanwhile, or waits for its parent to notice
            if "javascript" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


async def test_it_ends_with_its_pool() -> None:
    others, workers = _worker_pids(), JsWorkers(2)
    workers.start()
    pids = _worker_pids() - others
    workers.close()
    workers.close()
    assert len(pids) == 3, "two and a spare"
    for pid in pids:
        await _ended(pid)
    with pytest.raises(QuantracError, match="closed"):
        workers.run([Call(workers.add(GOOD), "decode_uplink")])


async def test_it_ends_when_the_program_dies() -> None:
    program = (
        "import time; from decoders.javascript.workers import JsWorkers; pool = JsWorkers(); pool.start(); "
        "print(*pool.pids(), flush=True); time.sleep(60)"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    children = [child.pid for child in psutil.Process(parent.pid).children()]
    assert pid in children
    parent.kill()
    await parent.wait()
    for child in children:
        await _ended(child)


def test_one_killed_between_batches_is_replaced() -> None:
    with JsWorkers() as workers:
        calls = [Call(workers.add(GOOD), "decode_uplink", 1, bytes([i])) for i in range(100)]
        expected = [{"first": i} for i in range(100)]
        workers.run(calls)
        [pid] = workers.pids()
        os.kill(pid, signal.SIGKILL)
        assert [outcome.data for outcome in workers.run(calls)] == expected
        assert workers.counts().lost == {"crashed": 1}


def test_a_signal_to_all_processes_leaves_it_to_the_pool() -> None:
    with JsWorkers() as workers:
        call = Call(workers.add(GOOD), "decode_uplink", 1, b"\x07")
        workers.start()
        [pid] = workers.pids()
        for sent in (signal.SIGTERM, signal.SIGINT):
            os.kill(pid, sent)
            assert workers.run([call])[0].data == {"first": 7}
        assert workers.pids() == [pid]


async def test_one_killed_in_a_batch_loses_nothing() -> None:
    slow = (
        "function decodeUplink({bytes}) { for (let i = 0; i < 3e4; i++); return {data: {first: bytes[0]}}; }"
    )
    with JsWorkers() as workers:
        codec = workers.add(slow)
        calls = [Call(codec, "decode_uplink", 1, bytes([i % 256])) for i in range(2000)]
        workers.start()
        [pid] = workers.pids()
        before = psutil.Process(pid).cpu_times().user
        running = asyncio.create_task(asyncio.to_thread(workers.run, calls))
        await until(lambda: psutil.Process(pid).cpu_times().user > before + 0.1)
        os.kill(pid, signal.SIGKILL)
        outcomes = await running
        assert [outcome.data for outcome in outcomes] == [{"first": i % 256} for i in range(2000)]
        assert workers.counts().lost == {"crashed": 1}
        assert workers.pids() != [pid]


def test_a_process_that_cannot_start_is_told_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("decoders.javascript.process._START", "raise SystemExit('no engine here')")
    with JsWorkers() as workers, pytest.raises(QuantracError, match="no engine here"):
        workers.start()
