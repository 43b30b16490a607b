"""CPU time by who used it, from the kernel's accounts."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import psutil


class Meter:
    """CPU seconds, user and system, of the consumers, the database, the broker and the benchmark itself.

    `ours` are the benchmark's own processes, `sessions` its own sessions of the database, which do not count
    as the database's.
    """

    def __init__(
        self,
        consumers: Sequence[int],
        broker: psutil.Process,
        postmaster: psutil.Process | None,
        ours: Sequence[int],
        sessions: Sequence[int],
    ) -> None:
        self._consumers = [psutil.Process(pid) for pid in consumers]
        self._broker = broker
        self._postmaster = postmaster
        self._ours = [psutil.Process(pid) for pid in ours]
        self._sessions = frozenset(sessions)
        self._seen: dict[int, float] = {}

    def read(self) -> dict[str, float]:
        """Seconds so far; `machine` is everything that ran; `database` is missing when that is elsewhere."""
        times = psutil.cpu_times()
        used = {
            "machine": float(sum(times) - times.idle - getattr(times, "iowait", 0.0)),
            "consumer": sum(_own(process) for process in self._consumers),
            "broker": _own(self._broker),
            "bench": sum(self._last(process) for process in self._ours),
        }
        if self._postmaster is not None:
            family = _family(self._postmaster)
            sessions = sum(seconds for pid, seconds in family.items() if pid in self._sessions)
            used["database"] = sum(family.values()) - sessions
            used["bench"] += sessions
        return used

    def _last(self, process: psutil.Process) -> float:
        """Of a publisher that has sent everything and ended, what it had used when it was last seen."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._seen[process.pid] = _own(process)
        return self._seen[process.pid]


def shares(
    before: Mapping[str, float], after: Mapping[str, float], seconds: float
) -> tuple[dict[str, float], float]:
    """CPU seconds by who used them between two readings `seconds` apart, without `machine`.

    And the share of the machine, 0 to 1, that went to programs which were not metered.
    """
    used = {who: after[who] - before[who] for who in after if who != "machine"}
    others = after["machine"] - before["machine"] - sum(used.values())
    return used, max(others, 0.0) / seconds / (psutil.cpu_count() or 1)


def _own(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _family(parent: psutil.Process) -> dict[int, float]:
    """Seconds by process id of a process with the dead children it has waited for, and of its living ones."""
    family = {}
    for child in parent.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            family[child.pid] = _own(child)
    times = parent.cpu_times()
    family[parent.pid] = float(times.user + times.system + times.children_user + times.children_system)
    return family
