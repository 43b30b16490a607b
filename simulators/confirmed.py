"""What a device with confirmed uplinks does until it is answered: repeat, remember, and tell it later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

from .frames import Frame

ATTEMPTS = 8
"""Of one frame, as Semtech's LoRaMac-node has it."""
JOIN_AGAIN_AFTER = 3
"""So many frames in a row given up, a device looks for the network anew."""
_RECORDS = 6  # remembered values that one frame carries

Row = tuple[float, Sequence[float]]
Recall = Callable[[Frame, tuple[Row, ...]], Frame]


class Talk:
    """One device's. `frame` is what it has to send next before it measures again, None when nothing.

    It remembers `room` measurements that were given up, the newest where there are more, and sends those by
    frames that `recall` makes once it is heard again.
    """

    def __init__(self, room: int, recall: Recall) -> None:
        self.frame: Frame | None = None
        self._attempts = 0
        self._given_up = 0
        self._recall = recall
        self._unsent: deque[Row] = deque(maxlen=room)

    def after(self, frame: Frame, answered: bool) -> Literal["again", "next", "join"]:
        """What comes after `frame` was sent once more; ``again``: at once, ``next``: when it is due."""
        self._attempts += 1
        if not answered and self._attempts < ATTEMPTS:
            self.frame = frame
            return "again"
        self._attempts = 0
        self.frame = None
        if answered:
            self._given_up = 0
            for row in frame.rows:
                if row in self._unsent:
                    self._unsent.remove(row)
            if self._unsent:
                self.frame = self._recall(frame, tuple(self._unsent)[:_RECORDS])
                return "again"
            return "next"
        if not frame.rows:
            self._unsent.append((frame.at, frame.values))
        self._given_up += 1
        if self._given_up < JOIN_AGAIN_AFTER:
            return "next"
        self._given_up = 0
        return "join"
