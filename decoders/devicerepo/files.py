"""Reads the files of a checkout into typed values; a fault names file and line."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml
import yaml12

from .lines import toml_line, yaml_line
from .model import Problem

_T = TypeVar("_T")
_LARGEST: Final = 4 * 1024 * 1024
_AT = re.compile(r" - at `\$(.*)`$")
_LINE = re.compile(r"\s*(?:at byte \d+ |\(at )?line (\d+),? column (\d+)\)?")
_INDIRECT = re.compile(r"(?m)(?:^|[\s:\-\[,{?])[*!][^\s]")


class BadFile(Exception):
    """`problem` says which file, where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Files:
    """The files below `root`, named by paths relative to it. Nothing outside of it is ever read."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def exists(self, name: str) -> bool:
        return (self._root / name).is_file()

    def glob(self, pattern: str) -> list[str]:
        """Names of the files that match, sorted."""
        found = (path for path in self._root.glob(pattern) if path.is_file())
        return sorted(path.relative_to(self._root).as_posix() for path in found)

    def text(self, name: str) -> str:
        """Raises: BadFile: missing, outside the checkout, over 4 MiB or not UTF-8."""
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root):
            raise BadFile(Problem(name, None, "lies outside the checkout"))
        try:
            if path.stat().st_size > _LARGEST:
                raise BadFile(Problem(name, None, f"is larger than {_LARGEST} bytes"))
            return path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise BadFile(Problem(name, None, error.strerror or str(error))) from error
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise BadFile(Problem(name, line, "is not UTF-8")) from error

    def yaml(self, name: str, type_: type[_T]) -> _T:
        """A YAML 1.2 file (core schema: ``on`` and ``yes`` are strings, ``017`` is 17).

        Raises:
            BadFile: not readable as `type_`, or it uses aliases or tags.
        """
        return self._read(name, _parse_yaml, type_)

    def toml(self, name: str, type_: type[_T]) -> _T:
        """Raises: BadFile: not readable as `type_`."""
        return self._read(name, tomllib.loads, type_)

    def json(self, name: str, type_: type[_T]) -> _T:
        """Raises: BadFile: not readable as `type_`."""
        return self._read(name, json.loads, type_)

    def convert(self, name: str, value: object, type_: type[_T], place: str) -> _T:
        """`value`, which was read from `place` in the file `name`, as `type_`.

        Raises:
            BadFile: it is not of that shape.
        """
        try:
            return msgspec.convert(value, type_)
        except msgspec.ValidationError as error:
            raise BadFile(_misshapen(name, self.text(name), error, place)) from error

    def _read(self, name: str, parse: Callable[[str], Any], type_: type[_T]) -> _T:
        text = self.text(name)
        try:
            value = parse(text)
        except json.JSONDecodeError as error:
            raise BadFile(
                Problem(name, error.lineno, f"is not JSON: {error.msg}, column {error.colno}")
            ) from error
        # yaml12 and tomllib both raise ValueError, and json gives up on deep nesting with RecursionError.
        except (ValueError, RecursionError) as error:
            found = _LINE.search(str(error))
            column = f", column {found[2]}" if found else ""
            raise BadFile(
                Problem(name, int(found[1]) if found else None, _LINE.sub("", str(error)) + column)
            ) from error
        try:
            return msgspec.convert(value, type_)
        except msgspec.ValidationError as error:
            raise BadFile(_misshapen(name, text, error, "")) from error


def _parse_yaml(text: str) -> Any:
    if _INDIRECT.search(text):
        _refuse_indirection(text)
    return yaml12.parse_yaml(text)


def _refuse_indirection(text: str) -> None:
    """An alias repeats its anchor's value, so a few lines of them make a billion nodes. No repository uses
    one, nor a tag."""
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None):
                kind = "an alias" if isinstance(event, yaml.AliasEvent) else "a tag"
                raise ValueError(f"{kind} is not allowed here; write the value out {_at(event.start_mark)}")
    except yaml.YAMLError as error:
        raise ValueError(f"is no YAML {_at(getattr(error, 'problem_mark', None))}") from error


def _at(mark: Any) -> str:
    return f"line {mark.line + 1} column {mark.column + 1}" if mark else ""


def _misshapen(name: str, text: str, error: msgspec.ValidationError, place: str) -> Problem:
    found = _AT.search(str(error))
    whole = (place + (found[1] if found else "")).removeprefix(".")
    message = _AT.sub("", str(error))
    line = toml_line(text, whole) if name.endswith(".toml") else yaml_line(text, whole)
    return Problem(name, line, f"{whole}: {message}" if whole else message)
