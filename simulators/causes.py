"""What is wrong with a file, in plain words: the checks' own (pydantic's, YAML's), translated."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails
from yaml import MarkedYAMLError

_SHOWN = 60  # characters of what stands there
_COMMA = re.compile(r"\s*-?\d+,\d+\s*")


Loc = tuple[int | str, ...]


def causes(faults: Sequence[ErrorDetails], model: type[BaseModel]) -> Iterator[tuple[Loc, str]]:
    """Where each is, why it is one, and its cure; `model` is what the whole file was checked against.

    A key that is missing because it is misspelt is one fault, not two.
    """
    misspelt: set[Loc] = set()
    for fault in sorted(faults, key=lambda fault: fault["type"] == "missing"):
        loc = fault["loc"]
        if fault["type"] in ("extra_forbidden", "invalid_key"):
            key, known = str(loc[-1]), _keys(_at(model, loc[:-1]))
            if key.isdigit():
                yield loc[:-1], f"{key} is no key; decimals have a point, not a comma"
            else:
                yield loc, f"is no key here{did_you_mean(key, known)}; known are {', '.join(known)}"
                misspelt |= {(*loc[:-1], near) for near in _nearest(key, known)}
        elif loc not in misspelt:
            yield loc, _cause(fault, model)


def _cause(fault: ErrorDetails, model: type[BaseModel]) -> str:
    type_, given, loc = fault["type"], fault["input"], fault["loc"]
    if type_ in ("model_type", "dict_type"):
        keys = _keys(_at(model, loc))
        return f"write its keys{' (' + ', '.join(keys) + ')' if keys else ''}, not {_shown(given)}"
    if given is None and type_ != "missing":
        return "nothing stands here; write its value, or take the key out"
    if type_ in _NUMBERS:
        comma = isinstance(given, str) and _COMMA.fullmatch(given)
        cure = f"; decimals have a point: {given.strip().replace(',', '.')}" if comma else ""
        return f"write a {_NUMBERS[type_]}, not {_shown(given)}{cure}"
    said = _SAID.get(type_)
    return said(fault.get("ctx", {}), given) if said else fault["msg"]


def did_you_mean(word: str, known: Collection[str]) -> str:
    """A hint at the nearest known word, to be put behind a fault; empty when none is near."""
    return "".join(f" (did you mean {near!r}?)" for near in _nearest(word, known))


def not_yaml(error: MarkedYAMLError) -> tuple[int, str]:
    """The line from 1 where YAML gave up, or where what it gave up on began; and why."""
    said = error.problem or ""
    cure, at_begin = next((known for words, known in _YAML.items() if words in said), (said, False))
    mark = error.context_mark if at_begin and error.context_mark else error.problem_mark
    return (mark.line + 1 if mark else 1), f"not YAML: {cure}"


def _nearest(word: str, known: Collection[str]) -> list[str]:
    return difflib.get_close_matches(word, known, n=1)


_NUMBERS = {
    "float_type": "number",
    "float_parsing": "number",
    "finite_number": "finite number",
    "int_type": "whole number",
    "int_parsing": "whole number",
    "int_from_float": "whole number",
}
_YAML = {
    r"'\t'": ("indent with spaces, not with a tab", False),
    "mapping values are not allowed": (
        "a key ends with a colon and a space, here or a line above",
        False,
    ),
    "could not find expected ':'": ("a key ends with a colon and a plain space", True),
    "expected <block end>": ("indent this as far as what it belongs to", False),
    "expected ',' or": ("what is opened here with [ or { is not closed", True),
}
_Said = Callable[[Mapping[str, Any], Any], str]


def _list(_: Mapping[str, Any], given: Any) -> str:
    example = f"[{given}]" if isinstance(given, str | int) else "[a, b]"
    return f"write a list, such as {example}, not {_shown(given)}"


def _text(_: Mapping[str, Any], given: Any) -> str:
    return "a text is needed here" + ("; put it in quotes" if isinstance(given, int | float) else "")


def _code(_: Mapping[str, Any], given: Any) -> str:
    return f"a word of a to z, digits and hyphens is needed here, such as flash-flood, not {_shown(given)}"


def _literal(ctx: Mapping[str, Any], given: Any) -> str:
    known = re.findall(r"'([^']+)'", ctx["expected"])
    return f"{_shown(given)} is none of {ctx['expected']}{did_you_mean(str(given), known)}"


def _truth(_: Mapping[str, Any], given: Any) -> str:
    return f"write true or false, not {_shown(given)}"


_SAID: dict[str, _Said] = {
    "missing": lambda *_: "is missing",
    "string_type": _text,
    "string_too_short": lambda *_: "a text is needed here, not an empty one",
    "string_pattern_mismatch": _code,
    "list_type": _list,
    "tuple_type": _list,
    "too_short": lambda ctx, _: f"at least {ctx['min_length']} needed, not {ctx['actual_length']}",
    "too_long": lambda ctx, _: f"at most {ctx['max_length']} allowed, not {ctx['actual_length']}",
    "greater_than": lambda ctx, given: f"must be above {ctx['gt']:g}, not {given}",
    "greater_than_equal": lambda ctx, given: f"must be {ctx['ge']:g} or more, not {given}",
    "less_than": lambda ctx, given: f"must be below {ctx['lt']:g}, not {given}",
    "less_than_equal": lambda ctx, given: f"must be {ctx['le']:g} or less, not {given}",
    "literal_error": _literal,
    "bool_type": _truth,
    "bool_parsing": _truth,
    "value_error": lambda ctx, _: str(ctx["error"]),
}


def _keys(kind: object) -> list[str]:
    """What a file may say of such a thing."""
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return []
    return [field.alias or name for name, field in kind.model_fields.items()]


def _at(kind: object, loc: Loc) -> object:
    """The type of what stands at `loc` of a `kind`; None stands for any."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _at(next(part for part in inner if part is not type(None)), loc)
    if not loc:
        return kind
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        named = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
        return _at(named.get(str(loc[0])), loc[1:])
    return _at(inner[-1 if origin is dict else 0], loc[1:]) if inner else None


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
