"""Rain cells: no rain is made or lost, cells drift with the wind, a seed is a sky."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.world.cells import RainCells, Spell, born
from simulators.world.field import Place
from simulators.world.series import Span

SPAN = Span(-2.0, 10.0, 1.0 / 30.0)
SPELL = Spell(0.0, 6.0, births_per_h=8.0, depth_mm=25.0, within_km=30.0)
CELLS = born([SPELL], seed=7)
SKY = RainCells(CELLS, SPAN)


def test_every_drop_of_the_cells_falls_somewhere() -> None:
    axis = np.arange(-90.0, 180.0, 5.0)
    east, north = (part.ravel() for part in np.meshgrid(axis, axis))
    t = np.arange(-2.0, 12.0, 0.1)
    fallen = SKY.rate(east, north, t).sum() * 5.0**2 * 0.1
    assert fallen == pytest.approx(sum(cell.volume_mm_km2 for cell in CELLS), rel=2e-3)


def test_as_many_are_born_as_the_spell_says_and_inside_it() -> None:
    counts = [len(born([SPELL], seed=seed)) for seed in range(40)]
    assert np.mean(counts) == pytest.approx(48.0, abs=4.0)
    assert np.std(counts) == pytest.approx(48.0**0.5, rel=0.4)
    assert all(0.0 <= c.born_h <= 6.0 and np.hypot(c.east_km, c.north_km) <= 30.0 for c in CELLS)
    cells = [cell for seed in range(20) for cell in born([SPELL], seed=seed)]
    assert np.mean([c.peak_mm_h * c.life_h / 2.0 for c in cells]) == pytest.approx(25.0, rel=0.1)


def test_a_cell_drifts_with_the_wind() -> None:
    cell = CELLS[0]
    alone = RainCells([cell], SPAN)
    there = np.array([cell.east_km + 4.5]), np.array([cell.north_km + 3.0])
    middle = np.array([cell.born_h + 0.3])
    cycle = np.sin(np.pi * 0.3 / cell.life_h) ** 2
    assert alone.rate(*there, middle)[0, 0] == pytest.approx(cell.peak_mm_h * cycle)
    axis = np.linspace(-60.0, 60.0, 241)
    for age in (0.3 * cell.life_h, 0.6 * cell.life_h):
        t = np.array([cell.born_h + age])
        along_east = alone.rate(axis, np.full_like(axis, cell.north_km + 10.0 * age), t)[:, 0]
        assert axis[along_east.argmax()] == pytest.approx(cell.east_km + 15.0 * age, abs=0.5)
    assert (
        alone.rate(axis, axis, np.array([cell.born_h - 0.01, cell.born_h + cell.life_h + 0.01])).sum() == 0.0
    )


def test_the_mean_over_a_disk_is_the_mean_of_its_places() -> None:
    t = np.linspace(0.5, 5.5, 11)
    rng = np.random.default_rng(1)
    r, angle = 20.0 * np.sqrt(rng.random(4000)), 2 * np.pi * rng.random(4000)
    places = SKY.rate(5.0 + r * np.cos(angle), r * np.sin(angle), t).mean(axis=0)
    assert SKY.mean_rate(Place(5.0, 0.0), 20.0, t) == pytest.approx(places, rel=0.1, abs=0.05)
    whole = SKY.depths(Place(30.0, 25.0), 120.0, rings=36).sum() * np.pi * 120.0**2
    assert whole == pytest.approx(sum(cell.volume_mm_km2 for cell in CELLS), rel=0.01)


def test_totals_only_grow_and_agree_with_the_rate() -> None:
    rate, total = SKY.fields()
    place, t = Place(10.0, 5.0), np.linspace(-2.0, 10.0, 2881)
    mm = total.at(place, t)
    assert (np.diff(mm) >= 0.0).all()
    assert mm[0] == 0.0
    assert mm[-1] == pytest.approx(np.trapezoid(rate.at(place, t), t), rel=1e-3)
    assert mm[-1] > 10.0


def test_a_seed_is_a_sky_however_it_is_asked() -> None:
    rate = SKY.fields()[0]
    t = np.linspace(0.0, 6.0, 50)
    again = RainCells(born([SPELL], seed=7), Span(-2.0, 50.0)).fields()[0].at(Place(), t)
    assert rate.at(Place(), t).tolist() == again.tolist() == rate.at(Place(), t[::-1])[::-1].tolist()
    assert rate.at(Place(), t.reshape(5, 10)).shape == (5, 10)
    more = born([SPELL, Spell(3.0, 1.0, 5.0, 9.0)], seed=7)
    assert more[: len(CELLS)] == CELLS
    assert born([SPELL], seed=8) != CELLS
