"""Confirmed uplinks: repeated, given up, remembered, told later in order."""

from __future__ import annotations

from simulators.confirmed import ATTEMPTS, JOIN_AGAIN_AFTER, Row, Talk
from simulators.frames import Frame


def _frame(at: float, *rows: Row) -> Frame:
    return Frame(0, at, False, 1, int(at), 1, b"x", {}, [at], rows)


def _talk(room: int = 10) -> Talk:
    return Talk(room, lambda after, rows: _frame(after.at, *rows))


def _give_up(talk: Talk, frame: Frame) -> str:
    for _ in range(ATTEMPTS - 1):
        assert talk.after(frame, False) == "again"
        assert talk.frame is frame
    return talk.after(frame, False)


def test_a_frame_is_repeated_until_it_is_answered() -> None:
    talk = _talk()
    assert [talk.after(_frame(1.0), answered) for answered in (False, False, True)] == [
        "again",
        "again",
        "next",
    ]
    assert talk.frame is None


def test_what_was_given_up_is_told_later() -> None:
    talk = _talk()
    assert _give_up(talk, _frame(1.0)) == "next"
    assert _give_up(talk, _frame(2.0)) == "next"
    assert talk.after(_frame(3.0), True) == "again"
    recalled = talk.frame
    assert recalled is not None
    assert recalled.rows == ((1.0, [1.0]), (2.0, [2.0]))
    assert _give_up(talk, recalled) == "next"
    assert talk.after(_frame(4.0), True) == "again"
    again = talk.frame
    assert again is not None
    assert again.rows == recalled.rows
    assert talk.after(again, True) == "next"
    assert talk.after(_frame(5.0), True) == "next"


def test_only_so_much_is_remembered_the_newest() -> None:
    talk = _talk(room=2)
    for at in (1.0, 2.0, 3.0):
        _give_up(talk, _frame(at))
    talk.after(_frame(4.0), True)
    assert talk.frame is not None
    assert [at for at, _ in talk.frame.rows] == [2.0, 3.0]
    assert _talk(room=0).after(_frame(1.0), True) == "next"
    forgetful = _talk(room=0)
    _give_up(forgetful, _frame(1.0))
    assert forgetful.after(_frame(2.0), True) == "next"


def test_who_is_never_answered_joins_again() -> None:
    talk = _talk()
    said = [_give_up(talk, _frame(float(n))) for n in range(2 * JOIN_AGAIN_AFTER)]
    assert said == [*["next"] * (JOIN_AGAIN_AFTER - 1), "join"] * 2
