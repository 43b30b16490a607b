"""The air: what is drowned, who is deaf, what gateways keep, and how data rates follow."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.adr import DataRates
from simulators.draws import keys
from simulators.ether import NOTHING_SENT, Ether, Heard, Sent
from simulators.network import GatewaySpec, NetworkSpec
from simulators.truths import OutageSpec

NEAR, FAR = "0251545200aa0001", "0251545200aa0002"
GATEWAYS = (
    GatewaySpec(id=NEAR, name="near", latitude=11.0, longitude=107.0),
    GatewaySpec(id=FAR, name="far", latitude=11.4, longitude=107.0),
)
QUIET = np.empty((0, 2))


def _outage(**content: object) -> OutageSpec:
    return OutageSpec.model_validate({"duration": "1h", **content})


def _ether(*outages: OutageSpec, count: int = 400, loss: float = 0.0) -> Ether:
    places = np.tile([11.001, 107.0], (count, 1))
    devices = keys(1, np.arange(count, dtype=np.uint64))
    parts = np.arange(count) // 200
    return Ether(GATEWAYS, NetworkSpec(loss=loss), outages, places, devices, devices, parts, seed=1)


def _sent(*at: float, channel: int | None = None, sf: int = 7) -> Sent:
    count = len(at)
    number = np.zeros(count, dtype=np.int64)
    channels = np.arange(count) % 8 if channel is None else np.full(count, channel)
    return Sent(np.arange(count), number, np.array(at), np.full(count, 0.06), channels, np.full(count, sf))


def _far_apart(count: int) -> Sent:
    return _sent(*(10.0 * np.arange(count)))


def test_alone_everything_near_is_heard_and_the_far_gateway_hears_less() -> None:
    heard = _ether().carry(_far_apart(400), NOTHING_SENT, QUIET)
    assert heard.by[:, 0].mean() > 0.99
    assert heard.rssi[:, 0].mean() > heard.rssi[:, 1].mean() + 30
    assert (heard.snr[heard.by] >= -7.5).all()
    assert (heard.snr <= 13.5).all()


def test_loss_takes_its_share() -> None:
    heard = _ether(loss=0.3).carry(_far_apart(400), NOTHING_SENT, QUIET)
    assert heard.by.any(axis=1).mean() == pytest.approx(0.7, abs=0.07)


def test_of_two_at_once_the_stronger_is_heard_or_none() -> None:
    ether = _ether()
    at = np.repeat(10.0 * np.arange(200), 2) + np.tile([0.0, 0.03], 200)
    together = ether.carry(_sent(*at, channel=3), NOTHING_SENT, QUIET)
    first, second = together.by[0::2, 0], together.by[1::2, 0]
    strength = together.rssi[0::2, 0] - together.rssi[1::2, 0]
    assert not (first & second).any()
    assert (first == (strength >= 6.0)).all()
    assert (second == (strength <= -6.0)).all()
    assert first.any()
    assert (~first & ~second).any()
    elsewhere = ether.carry(_sent(*at), NOTHING_SENT, QUIET)
    assert elsewhere.by[:, 0].mean() > 0.99


def test_what_began_before_still_disturbs() -> None:
    ether = _ether()
    before = _sent(*(10.0 * np.arange(200)), channel=3)
    strong = np.full((200, 2), 0.0)
    after = before._replace(begin_s=before.begin_s + 0.05)
    assert not ether.carry(after, before, strong).by.any()
    after = before._replace(begin_s=before.begin_s + 0.061)
    assert ether.carry(after, before, strong).by[:, 0].mean() > 0.99


def test_loss_rises_with_load() -> None:
    ether = _ether()
    shares = []
    for seconds in (200.0, 20.0, 2.0):
        at = np.sort(np.random.default_rng(1).uniform(0.0, seconds, 400))
        shares.append(ether.carry(_sent(*at, channel=3), NOTHING_SENT, QUIET).by[:, 0].mean())
    assert shares[0] > shares[1] > shares[2]


def test_a_deaf_gateway_hears_nothing_and_one_without_backhaul_keeps_it() -> None:
    deaf = _ether(_outage(gateways=(NEAR,), begins_h=1.0))
    heard = deaf.carry(_sent(3599.0, 3600.0, 7199.0, 7200.0), NOTHING_SENT, QUIET)
    assert heard.by[:, 0].tolist() == [True, False, False, True]
    cut = _ether(
        _outage(begins_h=1.0, backhaul=True),
        _outage(gateways=(FAR,), begins_h=1.5, backhaul=True),
    )
    assert cut.carry(_sent(3600.0), NOTHING_SENT, QUIET).by[0, 0]
    assert [cut.kept_until(0, at) for at in (3599.0, 3600.0, 7199.0, 7200.0)] == [None, 7200.0, 7200.0, None]
    assert cut.kept_until(1, 3600.0) == 9000.0
    outages = (_outage(begins_h=begin, duration="2h", backhaul=True) for begin in (2, 1))
    assert _ether(*outages).kept_until(0, 3600.0) == 4 * 3600.0, "whatever their order"


def _heard(snr: float | None) -> Heard:
    return Heard(np.array([[-100.0]]), np.array([[snr or 0.0]]), np.array([[snr is not None]]))


def test_data_rates_follow_the_best_of_twenty_and_fall_back_in_silence() -> None:
    device = np.array([0])
    rates = DataRates(np.array([10]))
    for n in range(20):
        assert rates.spreading_factor[0] == 10
        rates.follow(device, _heard(-2.0 if n == 5 else -8.0))
    assert rates.spreading_factor[0] == 9
    for _ in range(96):
        assert rates.spreading_factor[0] == 9
        rates.follow(device, _heard(None))
    assert rates.spreading_factor[0] == 10
    for _ in range(32):
        assert rates.spreading_factor[0] == 10
        rates.follow(device, _heard(None))
    assert rates.spreading_factor[0] == 11
    for _ in range(20):
        rates.follow(device, _heard(-20.0))
    assert rates.spreading_factor[0] == 11, "never slower by order"
    rates.rejoin(device, np.array([False]))
    assert rates.spreading_factor[0] == 12
    rates.rejoin(device, np.array([True]))
    assert rates.spreading_factor[0] == 12
