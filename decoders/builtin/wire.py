"""What the built-in codecs share: every refusal names the byte or the field it is about."""

from __future__ import annotations

import math
from collections.abc import Mapping

from telemetry.plugin import DecodeError, Field

_HUGE = 1e300


def check_port(f_port: int, only: int | None = None) -> None:
    """Refuse a frame of another port than `only`, or of none for applications when `only` is None.

    Application ports are 1 to 223 (LoRaWAN 1.0.4 specification, section 4.3.2).
    """
    if only is not None and f_port != only:
        raise DecodeError(f"f_port {f_port}: this device sends its data on port {only}")
    if not 1 <= f_port <= 223:
        raise DecodeError(f"f_port {f_port}: data comes on ports 1 to 223")


def check_size(payload: bytes, at: int, size: int, field: str) -> None:
    """Refuse a payload that ends before the `size` bytes of `field`, which begin at byte `at`."""
    if len(payload) - at < size:
        raise DecodeError(
            f"byte {at}: {field} needs {size} byte{'s' * (size > 1)}, {max(len(payload) - at, 0)} left"
        )


def to_raw(fields: Mapping[str, Field], name: str, low: int, high: int, per_unit: float = 1) -> int:
    """The integer on the wire nearest to the number `fields[name]` times `per_unit`, in [`low`, `high`]."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DecodeError(f"{name}: a number is needed, got {value!r}")
    # Comparisons before round() and the product: NaN, the infinities and integers beyond float are refused.
    scaled = value * per_unit if abs(value) < _HUGE else math.inf
    if not low - 1 < scaled < high + 1 or not low <= (raw := round(scaled)) <= high:
        raise DecodeError(f"{name}: {value} is outside {low / per_unit:g} to {high / per_unit:g}")
    return raw


def to_flag(fields: Mapping[str, Field], name: str) -> int:
    """0 or 1 for the boolean (or 0/1) `fields[name]`."""
    value = fields.get(name)
    if value not in (0, 1):
        raise DecodeError(f"{name}: true or false is needed, got {value!r}")
    return int(value)


def refuse_unknown(fields: Mapping[str, Field], known: frozenset[str]) -> None:
    """Refuse fields that the frame has no place for, so that encoding never drops anything in silence."""
    unknown = sorted(fields.keys() - known)
    if unknown:
        raise DecodeError(f"{', '.join(unknown)}: not in this frame; it carries {', '.join(sorted(known))}")
