"""Every PUBACK is counted, and none may be missing."""

from __future__ import annotations

import struct

import pytest

from bench.load import Acks
from bench.messages import PACKET_IDS


def pubacks(*packet_ids: int) -> bytes:
    return b"".join(struct.pack(">HH", 0x4002, number) for number in packet_ids)


def test_acks_count_however_the_bytes_are_cut() -> None:
    acks, data = Acks(), pubacks(*range(1, 101))
    for at in range(0, len(data), 7):
        acks.read(data[at : at + 7])
    assert acks.count == 100


def test_packet_ids_begin_again_after_the_last() -> None:
    acks = Acks()
    acks.read(pubacks(*range(1, PACKET_IDS + 1)))
    acks.read(pubacks(1, 2))
    assert acks.count == PACKET_IDS + 2


@pytest.mark.parametrize("data", [pubacks(1, 3), pubacks(2), b"\x40\x03\x00\x01", b""])
def test_a_gap_another_packet_or_the_end_is_an_error(data: bytes) -> None:
    with pytest.raises(ConnectionError):
        Acks().read(data)
