"""Compares what a codec gave with what its vector expects. Pure.

What The Things Network's validator does (`bin/validate.js` with `bin/runscript`), and we follow:

- The whole output must be equal, by lodash's ``isEqual``: every member on both sides, lists in order, members
  in any order. Numbers are JavaScript's: 1 is 1.0, −0 is 0, NaN is NaN, true is not 1; there is no tolerance.
- `errors` and `warnings` must be the same texts in the same order, and returned: a codec that throws fails
  its vector, also where an error is expected.
- A member whose value is ``undefined`` reaches the comparison as null, so an expected null is met by a member
  that is not there. (ChirpStack's compares the texts of ``JSON.stringify``, where it is not.)
- A normalized output that is one object counts as a list of that object.

Where we differ, because Quantrac keeps an output as `data`, `warnings` and `errors` and no more: an absent
list of errors or warnings is an empty one; where errors are expected `data` is not compared, for a frame with
errors has none; other members (``port``) are not looked at, and for ChirpStack the order of members is not.

Examples in our own form expect no `errors` but an `error`: a part of what the codec says, thrown or returned.
They say nothing of warnings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from decoders.javascript.calls import Outcome

from .model import Vector

_ABSENT = object()
_SHOWN = 120


def differences(vector: Vector, outcome: Outcome) -> list[str]:
    """One line for each path that differs (``data.t: expected 21.5, got 21.4``); empty when it passed."""
    if "error" in vector.expected and vector.origin == "quantrac":
        return _error(vector.expected["error"], outcome)
    if outcome.failure is not None:
        return [f"{outcome.failure}: {'; '.join(outcome.errors)}"]
    lenient = vector.origin == "ttn"
    expected = vector.expected
    found: list[str] = []
    errors = expected.get("errors") or []
    found += differing(errors, outcome.errors, "errors", absent_is_null=lenient)
    if not errors and not outcome.errors:
        found += _data(vector, outcome.data, lenient)
    if vector.origin != "quantrac":
        warned = expected.get("warnings") or []
        found += differing(warned, outcome.warnings, "warnings", absent_is_null=lenient)
    return found


def _error(part: str, outcome: Outcome) -> list[str]:
    said = "; ".join(outcome.errors)
    if not outcome.retryable and said and part in said:
        return []
    return [f"error: expected {part!r}, got {_shown(said if said else outcome.data)}"]


def _data(vector: Vector, actual: Any, lenient: bool) -> Iterator[str]:
    expected = vector.expected
    if vector.function == "encode_downlink":
        actual = actual if isinstance(actual, Mapping) else {}
        for name in ("fPort", "bytes"):
            yield from differing(
                expected.get(name, _ABSENT), actual.get(name, _ABSENT), name, absent_is_null=lenient
            )
        return
    wanted = expected.get("data")
    if vector.function == "normalize_uplink":
        wanted, actual = _listed(wanted), _listed(actual)
    yield from differing(wanted, actual, "data", absent_is_null=lenient)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, Mapping) else value


def differing(expected: Any, actual: Any, path: str, *, absent_is_null: bool = False) -> Iterator[str]:
    """As `differences`, of two JSON values at `path`. `absent_is_null`: an expected null may be absent."""
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        # A YAML key may be a number; JavaScript's are strings.
        wanted = {str(name): value for name, value in expected.items()}
        for name in sorted(wanted.keys() | actual.keys()):
            yield from differing(
                wanted.get(name, _ABSENT),
                actual.get(name, _ABSENT),
                f"{path}.{name}",
                absent_is_null=absent_is_null,
            )
    elif _is_list(expected) and _is_list(actual):
        for index in range(max(len(expected), len(actual))):
            yield from differing(
                expected[index] if index < len(expected) else _ABSENT,
                actual[index] if index < len(actual) else _ABSENT,
                f"{path}.{index}",
                absent_is_null=absent_is_null,
            )
    elif not _equal(expected, actual) and not (absent_is_null and expected is None and actual is _ABSENT):
        yield f"{path}: expected {_shown(expected)}, got {_shown(actual)}"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _equal(expected: Any, actual: Any) -> bool:
    if _is_number(expected) and _is_number(actual):
        one, other = _double(expected), _double(actual)
        return one == other or (one != one and other != other)
    return type(expected) is type(actual) and bool(expected == actual)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _double(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
