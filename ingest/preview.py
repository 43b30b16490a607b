"""What decoding stored frames again would change: counts and a readable sample. Writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import psycopg

from decoders.registry import Registry
from telemetry.clock import from_micros
from telemetry.store.lanes import Readings
from telemetry.store.registry import DeviceRow
from telemetry.store.writer import registry_version

from .again import Again, Frame, work_out
from .decode_jobs import Asked, Span, read_window
from .difference import Difference
from .directory import Directory, Trial, read_directory
from .faults import blames_content
from .javascript import Answers, JavaScript, Unasked
from .redecode import FRAMES_A_STEP, differs, tells_of_earlier

_EXAMPLES_A_METRIC = 3
_PROBLEMS = 10
_Slot = tuple[int, int, int, int]  # metric, channel, time, uplink


class MetricChange(msgspec.Struct):
    """Readings of one metric. `largest` is the greatest difference of altered ones, in the metric's unit."""

    altered: int = 0
    added: int = 0
    removed: int = 0
    largest: float = 0.0


class Example(msgspec.Struct, frozen=True):
    """One reading as it is and as it would be; None: there is none."""

    time: datetime
    dev_eui: str
    metric: str
    channel: int
    before: float | None
    after: float | None


class Preview(msgspec.Struct):
    """`frames` were looked at: `same` carry the present stamp already, of `changed` the readings would
    change, `untouched` would stay as they are as no codec answered, the rest would only get another stamp.

    `problems` are what would be said of frames, and of how many, the most frequent first.
    """

    devices: int = 0
    frames: int = 0
    same: int = 0
    changed: int = 0
    untouched: int = 0
    metrics: dict[str, MetricChange] = {}
    examples: list[Example] = []
    problems: dict[str, int] = {}


class Previewer:
    """Decodes as the registry is now, or as it would be after a `trial`; `connection` is in autocommit."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        codecs: Registry,
        javascript: JavaScript | None,
        *,
        every_frame: bool = False,
        trial: Trial | None = None,
    ) -> None:
        self._connection = connection
        self._answers = Answers(javascript)
        self._every_frame = every_frame
        with connection.transaction(), connection.cursor(binary=True) as cursor:
            self._directory = read_directory(cursor, codecs, registry_version(cursor), javascript, trial)
        self._metrics = {id_: key for key, id_ in self._directory.metric_ids.items()}
        self._told: Counter[str] = Counter()
        self._logs: dict[int, bool] = {}

    @property
    def directory(self) -> Directory:
        return self._directory

    def run(self, asked: Sequence[Asked], span: Span, progress: Callable[[int], None]) -> Preview:
        """Look at these devices' frames; `progress` is told how many of them are done."""
        preview = Preview()
        for one in asked:
            device = self._directory.devices.get(one.dev_eui)
            if device is None:  # registered after we began
                continue
            device = device._replace(status="active")
            preview.devices += 1
            after = None
            while frames := self._window(device, span, after):
                after = frames[-1].time, frames[-1].id
                todo = [frame for frame in frames if self._every_frame or self._differs(frame, device)]
                preview.frames += len(frames)
                preview.same += len(frames) - len(todo)
                self._look(preview, device, todo)
                progress(preview.frames)
        preview.problems = dict(self._told.most_common(_PROBLEMS))
        return preview

    def _window(self, device: DeviceRow, span: Span, after: tuple[datetime, int] | None) -> list[Frame]:
        with self._connection.transaction(), self._connection.cursor(binary=True) as cursor:
            if after is None:
                self._logs[device.id] = tells_of_earlier(cursor, device, self._directory)
            return read_window(cursor, device.id, span, after, FRAMES_A_STEP)

    def _differs(self, frame: Frame, device: DeviceRow) -> bool:
        return self._logs[device.id] or differs(frame, device, self._directory)

    def _look(self, preview: Preview, device: DeviceRow, frames: list[Frame]) -> None:
        if not frames:
            return
        try:
            again = self._work_out(device, frames)
        except Exception as error:
            if not blames_content(error):
                raise
            if len(frames) > 1:
                middle = len(frames) // 2
                self._look(preview, device, frames[:middle])
                self._look(preview, device, frames[middle:])
                return
            preview.untouched += 1
            self._told[f"{type(error).__name__}: {error}"] += 1
            return
        preview.untouched += len(again.untouched)
        preview.changed += len(again.difference.frames)
        said = [*again.decoded.values(), *again.untouched.values()]
        self._told.update(one.problem for one in said if one.problem is not None)
        self._compare(preview, device, again.difference)

    def _work_out(self, device: DeviceRow, frames: list[Frame]) -> Again:
        try:
            while True:
                try:
                    with self._connection.transaction(), self._connection.cursor(binary=True) as cursor:
                        known = [(frame, device) for frame in frames]
                        return work_out(cursor, known, self._directory, self._answers)
                except Unasked as unasked:
                    self._answers.fetch(unasked)
        finally:
            self._answers.forget()

    def _compare(self, preview: Preview, device: DeviceRow, difference: Difference) -> None:
        before, after = _by_slot(difference.gone), _by_slot(difference.new)
        for slot in sorted(before.keys() | after.keys(), key=lambda slot: (slot[2], slot)):
            metric = self._metrics[slot[0]]
            change = preview.metrics.setdefault(metric, MetricChange())
            was, now = before.get(slot), after.get(slot)
            if was is not None and now is not None:
                change.altered += 1
                change.largest = max(change.largest, abs(now - was))
            elif now is not None:
                change.added += 1
            else:
                change.removed += 1
            shown = sum(example.metric == metric for example in preview.examples)
            if shown < _EXAMPLES_A_METRIC:
                time = from_micros(slot[2])
                preview.examples.append(Example(time, device.dev_eui, metric, slot[1], was, now))


def _by_slot(readings: Readings) -> dict[_Slot, float]:
    """Values before calibration are not told apart here: what is shown is what a chart would show."""
    names = ("metric_id", "channel", "time", "uplink_id")
    slots: Iterable[Any] = zip(*(readings[name].tolist() for name in names), strict=True)
    return dict(zip(slots, readings["value"].tolist(), strict=True))
