"""From the unit a field is declared in to the catalogue's: an exact line, worked out once per pair.

UCUM codes are read by ucumvert and converted by pint. Both are loaded at the first conversion between two
different units, which takes about a second and 30 MiB; nothing of them runs per value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from .catalogue import CATALOGUE
from .errors import UsageError

CUBIC_METRES_PER_MOLE = Fraction("8.31446261815324") * Fraction("298.15") / 101325
"""Of an ideal gas at 25 °C and 760 mmHg, as QCVN 05:2023/BTNMT counts its Nm³; with the SI's gas constant."""

# The library takes a milli-g for a milligram.
_SPELT = {"m[g]": "10*-3.[g]"}
# UCUM has it, the library does not; it measures nothing else, so it converts to itself alone.
_ALONE = frozenset({"[pH]"})
_LONGEST = 64
_ENDLESS = re.compile(rf".{{{_LONGEST + 1},}}|\d{{4,}}", re.DOTALL)
_PLAIN = str.maketrans({"µ": "u", "μ": "u", "²": "2", "³": "3", "·": ".", " ": None})
# What people write, and the UCUM code of it.
_MEANT = {
    code: meant
    for meant, codes in {
        "Cel": "°C C ºC ℃ degC celsius",
        "[degF]": "°F F degF fahrenheit",
        "deg": "° degree degrees",
        "dB[SPL]": "dBA dB(A) dBSPL",
        "dB{mW}": "dBm",
        "%": "%RH RH %vol percent",
        "[in_i]": "in inch",
        "[ft_i]": "ft",
        "[kn_i]": "kn knots",
        "[mi_i]/h": "mph",
        "km/h": "kph kmh",
        "m/s2": "m/s^2",
        "m3": "m^3",
        "m3/h": "m^3/h",
        "m3/s": "m^3/s",
        "ug/m3": "ug/m^3",
        "mg/m3": "mg/m^3",
        "[ppm]": "ppm",
        "[ppb]": "ppb",
        "[ppth]": "ppt ppth",
        "[NTU]": "NTU",
        "[FNU]": "FNU",
        "[psi]": "psi",
        "mm[Hg]": "mmHg",
        "[g]": "g",
        "m[g]": "mg",
        "W.h": "Wh",
        "kW.h": "kWh",
        "lx": "lux",
        "s": "sec",
    }.items()
    for code in codes.split()
}


class Affine(NamedTuple):
    """``value * factor + offset``, exactly."""

    factor: Fraction
    offset: Fraction


IDENTITY = Affine(Fraction(1), Fraction(0))


def conversion(unit: str, metric: str) -> Affine:
    """From values in `unit` (UCUM) to values in the unit of the catalogue's `metric`.

    A fraction of a gas by volume (ppb, ppm, %) and its mass per volume are converted into each other at
    25 °C and 760 mmHg where the catalogue knows the gas's molar mass.

    Raises:
        UsageError: `unit` is no UCUM code that can be converted, or of another kind than the metric's.
    """
    entry = CATALOGUE[metric]
    if unit == entry.unit:
        return IDENTITY
    line = None
    if unit not in _ALONE and entry.unit not in _ALONE:
        line = _line(unit, entry.unit, entry.molar_mass)
    if line is None:
        meant = _MEANT.get(unit)
        raise UsageError(
            f"{unit!r} does not convert to {entry.unit!r}, the unit of {metric}"
            + (f" (is {meant!r} meant?)" if meant else "")
            + f"; declare a unit of the same kind, or leave `unit` out and give `scale` into {entry.unit!r}"
        )
    return line


@cache
def _line(unit: str, to: str, molar_mass: float | None) -> Affine | None:
    """None where the units are of different kinds, or a logarithm lies between them."""
    source, target, quantity = _parse(unit), _parse(to), _library().quantity
    try:
        if molar_mass is not None:
            pure = quantity(Fraction(repr(molar_mass)) / CUBIC_METRES_PER_MOLE, "g/m^3")
            if source.dimensionless and target.check(pure.dimensionality):
                source = source * pure
            elif target.dimensionless and source.check(pure.dimensionality):
                source = source / pure
        zero, one, two = (quantity(Fraction(x), source.units).to(target.units).magnitude for x in range(3))
    except (ArithmeticError, TypeError, ValueError):  # pint's errors are of these kinds
        return None
    if not all(isinstance(value, (int, Fraction)) for value in (zero, one, two)) or two - one != one - zero:
        return None
    each = Fraction(str(target.magnitude))
    return Affine((one - zero) * Fraction(str(source.magnitude)) / each, zero / each)


def _parse(unit: str) -> Any:
    """A quantity of pint; its magnitude is not 1 where the code has a number, as ``/(100.mL)``."""
    library = _library()
    try:
        # A power of a thousand digits would keep the library busy for hours.
        found = None if _ENDLESS.search(unit) else library.parse(_SPELT.get(unit, unit))
    except library.bad_code:
        found = None
    if found is None:
        plain = unit.translate(_PLAIN)
        meant = _MEANT.get(unit) or _MEANT.get(plain) or (plain if plain != unit else None)
        raise UsageError(
            f"{unit[:_LONGEST]!r} is no UCUM code that can be converted"
            + (f" (is {meant!r} meant?)" if meant else "")
            + "; the codes are at https://ucum.org/ucum"
        )
    # A mere annotation, such as {count}, stands for 1.
    return library.quantity(1, "") if isinstance(found, str) else found


class _Library(NamedTuple):
    quantity: Callable[..., Any]
    parse: Callable[[str], Any]
    bad_code: tuple[type[Exception], ...]


@cache
def _library() -> _Library:
    """One registry that counts in fractions, so that nothing is rounded before the end."""
    from lark.exceptions import LarkError
    from pint import UnitRegistry
    from ucumvert import UcumToPintTransformer, get_ucum_parser  # type: ignore[import-untyped]

    registry: Any = UnitRegistry(non_int_type=Fraction)
    registry.load_definitions(str(files("ucumvert").joinpath("pint_ucum_defs.txt")))
    transform, parser = UcumToPintTransformer(registry).transform, get_ucum_parser()
    return _Library(
        registry.Quantity,
        lambda code: transform(parser.parse(code)),
        (LarkError, ArithmeticError, AttributeError),
    )
