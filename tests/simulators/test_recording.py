"""Lines and files of recordings: any bytes come back, a cut file is read to where it is whole."""

from __future__ import annotations

import gzip
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators import recording
from simulators.message import Message
from simulators.recording import Recording, RecordingError, Recordings
from simulators.run import run
from simulators.scenario import load_scenario
from telemetry.errors import UsageError

START = datetime(2026, 1, 1, tzinfo=UTC)
payloads = st.binary() | st.text().map(str.encode) | st.builds(lambda x: b'{"a":"' + x + b'"}', st.binary())
messages = st.builds(
    Message,
    topic=st.text(),
    payload=payloads,
    time=st.datetimes(timezones=st.just(UTC)).filter(lambda time: time.year >= 1000),
    qos=st.integers(0, 2),
    retain=st.booleans(),
)


def some(count: int, *, gap: timedelta = timedelta(seconds=1)) -> list[Message]:
    return [Message(f"t/{n}", b'{"n":%d}' % n, START + n * gap) for n in range(count)]


@given(messages)
def test_any_message_comes_back_from_its_line(message: Message) -> None:
    line = message.line()
    assert "\n" not in line
    assert Message.of(line) == Message.of(line.encode()) == message


def test_json_stays_readable() -> None:
    line = Message("a/b", '{"tên": "Đồng Nai"}'.encode(), START).line()
    told = r'{"topic":"a/b","payload":"{\"tên\": \"Đồng Nai\"}","qos":1,'
    assert line == told + '"time":"2026-01-01T00:00:00.000000Z"}'
    assert json.loads(Message("a", b"\x0a\x02hi", START).line())["payload_base64"] == "CgJoaQ=="


def test_files_of_a_folder_follow_each_other(tmp_path: Path) -> None:
    sent = some(50, gap=timedelta(minutes=1))
    recording = Recording(tmp_path / "kept", longest=timedelta(minutes=10))
    for at in range(0, 50, 5):
        recording.append(sent[at : at + 5])
        assert [path.suffix for path in (tmp_path / "kept").iterdir()].count(".part") == 1
    recording.close()
    assert [path.name for path in recording.files] == [f"20260101T00{n}000Z-001.ndjson.gz" for n in range(5)]
    assert list(Recordings([tmp_path / "kept"])) == sent
    again = Recording(tmp_path / "kept", largest=1)
    again.append(sent[:1])
    again.append(sent[1:2])
    again.close()
    assert [path.name[:20] for path in again.files] == ["20260101T000000Z-002", "20260101T000100Z-001"]


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz"])
def test_what_was_appended_is_readable_before_the_file_is_whole(tmp_path: Path, name: str) -> None:
    recording = Recording(tmp_path / name)
    for at in range(0, 30, 10):
        recording.append(some(30)[at : at + 10])
        part = tmp_path / f"{name}.part"
        copy = tmp_path / f"cut-{name}"
        copy.write_bytes(part.read_bytes())
        assert list(Recordings([copy])) == some(30)[: at + 10]
    recording.close()
    assert not part.exists()
    assert list(Recordings([tmp_path / name], strict=True)) == some(30)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.999])
def test_a_truncated_gzip_gives_what_is_whole(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.ndjson.gz"
    data = gzip.compress("".join(message.line() + "\n" for message in some(2000)).encode())
    path.write_bytes(data[: int(len(data) * share)])
    recordings = Recordings([path])
    found = list(recordings)
    assert found == some(2000)[: len(found)]
    assert len(found) > 2000 * share * 0.5
    assert 1 <= recordings.skipped <= 2
    with pytest.raises(UsageError, match=r"a\.ndjson\.gz.*(ends too early|no recorded message)"):
        list(Recordings([path], strict=True))


def test_files_that_were_joined_are_read_to_the_end(tmp_path: Path) -> None:
    for name, part in (("a", some(5)[:2]), ("b", some(5)[2:])):
        recording = Recording(tmp_path / f"{name}.ndjson.gz")
        recording.append(part)
        recording.close()
    joined = tmp_path / "all.gz"
    joined.write_bytes((tmp_path / "a.ndjson.gz").read_bytes() + (tmp_path / "b.ndjson.gz").read_bytes())
    assert list(Recordings([joined], strict=True)) == some(5)


def test_lines_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    good = some(2)
    bad = ["hello", "[]", '{"topic":"t"}', '{"topic":"t","payload":"","time":"2026-01-01T00:00:00"}', "\x00"]
    path.write_text("\n".join([good[0].line(), *bad, "", good[1].line()]), encoding="utf-8")
    recordings = Recordings([path])
    assert list(recordings) == good
    assert recordings.skipped == len(bad)
    with pytest.raises(UsageError, match=r"a\.ndjson:2: no recorded message"):
        list(Recordings([path], strict=True))


def test_a_file_without_line_ends_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_LONGEST_LINE", 2**20)
    file = tmp_path / "disk.ndjson"
    file.write_bytes(bytes(2**22))
    read = Recordings([file])
    assert list(read) == []
    assert read.skipped > 0
    with pytest.raises(UsageError, match="disk"):
        list(Recordings([file], strict=True))


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        Recordings([tmp_path / "nowhere.ndjson"])
    with pytest.raises(UsageError, match="holds no recording"):
        Recordings([tmp_path])
    (tmp_path / "a.ndjson").touch()
    (tmp_path / "b.ndjson.gz.part").touch()
    with pytest.raises(UsageError, match="exists already"):
        Recording(tmp_path / "a.ndjson")
    with pytest.raises(UsageError, match="was cut"):
        Recording(tmp_path / "b.ndjson.gz")
    with pytest.raises(UsageError, match="end the name in"):
        Recording(tmp_path / "c.txt")


@contextmanager
def _disk_of(size: int) -> Iterator[None]:
    """Files may not grow beyond `size` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "a.ndjson.gz")
    noise = [Message(f"t/{n}", os.urandom(500), START) for n in range(200)]
    written = 0

    def write() -> None:
        nonlocal written
        for at in range(0, 200, 10):
            recording.append(noise[at : at + 10])
            written += 10

    with _disk_of(20_000), pytest.raises(RecordingError, match=r"gz\.part: cannot be written: "):
        write()
    assert written >= 10
    assert list(Recordings([tmp_path / "a.ndjson.gz.part"])) == noise[:written]


async def test_a_simulation_is_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "calm.ndjson"
    summary = await run(load_scenario("calm-day"), seed=3, out=path)
    found = list(Recordings([path], strict=True))
    assert len(found) == summary.messages
    assert "".join(message.line() + "\n" for message in found) == path.read_text(encoding="utf-8")
