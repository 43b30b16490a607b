"""YAML files checked against a model, with every fault named by file, line, path and cause."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from telemetry.errors import UsageError

from .causes import causes, did_you_mean, not_yaml

Loc = Sequence[str | int]
_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)")
_EUI = re.compile(r"[0-9a-f]{16}")


def _duration(value: object) -> object:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return float(match[1]) * _UNITS[match[2]]
    raise ValueError(f"write one number and its unit, such as 90s, 20min, 1.5h or 2d, not {value!r}")


def _eui(value: object) -> object:
    if isinstance(value, str) and _EUI.fullmatch(value):
        return value
    got = f", not {value!r}" if isinstance(value, str) else ""
    raise ValueError(f'write 16 hexadecimal digits, small letters, in quotes ("0251545200ab0001"){got}')


Duration = Annotated[float, BeforeValidator(_duration), Field(gt=0)]
"""Seconds; in the file a number with its unit."""

Hours = Annotated[Duration, AfterValidator(lambda seconds: seconds / 3600.0)]
"""Hours; in the file a number with its unit, too."""

Eui = Annotated[str, BeforeValidator(_eui)]
"""Of a device or a gateway."""

Positive = Annotated[float, Field(gt=0)]


class Model(BaseModel):
    """Base of what a file may hold: unknown keys are faults, nothing changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Text(Model):
    """Words in Vietnamese and English."""

    vi: str = Field(min_length=1)
    en: str = Field(min_length=1)


ModelT = TypeVar("ModelT", bound=Model)


class Document:
    """One YAML file with the places of its parts.

    Raises:
        UsageError: the file cannot be read, is empty, is not YAML or names a key twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{path}: cannot be read: save it as UTF-8") from None
        try:
            self._root = loader.get_single_node()
            self.data: object = loader.construct_document(self._root) if self._root else None
        except yaml.MarkedYAMLError as error:
            line, why = not_yaml(error)
            raise UsageError(f"{path}:{line}: {why}") from None
        except (yaml.YAMLError, ValueError) as error:
            raise UsageError(f"{path}: not YAML: {error}") from None
        if self._root is None:
            self.refuse([((), "the file is empty")])
        self.refuse([(loc, "this key stands here twice") for loc in _repeated(self._root, ())])

    def parse(self, model: type[ModelT]) -> ModelT:
        """The file's content as `model`.

        Raises:
            UsageError: one line for each fault.
        """
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            self.refuse(causes(error.errors(), model))
            raise

    def refuse(self, faults: Iterable[tuple[Loc, str]]) -> None:
        """Raise a UsageError of one ``file:line: path: cause`` line for each fault, when there are any."""
        if found := sorted(faults, key=lambda fault: self._line(fault[0])):
            raise UsageError("\n".join(self.said(loc, why) for loc, why in found))

    def said(self, loc: Loc, why: str) -> str:
        """``file:line: path: cause``."""
        return f"{self.path}:{self._line(loc)}: {_dotted(loc)}{why}"

    def beside(self, key: str, name: str) -> Path:
        """The file that this one names at `key`, relative to it.

        Raises:
            UsageError: there is none.
        """
        path = self.path.parent / name
        if not path.is_file():
            self.refuse([((key,), f"{path} cannot be read: there is no such file")])
        return path

    def _line(self, loc: Loc) -> int:
        """The line of what `loc` names, or of the nearest part around it that exists."""
        node, line = self._root, 1
        for step in loc:
            if isinstance(node, yaml.MappingNode):
                found = next(((k, v) for k, v in node.value if k.value == str(step)), None)
                if found is None:
                    break
                line, node = found[0].start_mark.line + 1, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line + 1
            else:
                break
        return line


def unknown(loc: Loc, name: str, known: Collection[str], cure: str = "") -> list[tuple[Loc, str]]:
    """The fault of a name that is not among the known ones; none when it is."""
    if name in known:
        return []
    if not known:
        return [(loc, f"there is no {name!r}; none are known{cure}")]
    return [(loc, f"{name!r} is none of {', '.join(sorted(set(known)))}{did_you_mean(name, known)}{cure}")]


def _repeated(node: yaml.Node | None, loc: tuple[str | int, ...]) -> Iterable[Loc]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield (*loc, key.value)
            seen.add(key.value)
            yield from _repeated(value, (*loc, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _repeated(value, (*loc, index))


def _dotted(loc: Loc) -> str:
    text = ""
    for step in loc:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return f"{text}: " if text else ""
