"""Finds the line of a value in a file whose reader keeps no lines; only ever for a message."""

from __future__ import annotations

import re
from collections import Counter

import yaml

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_TABLE = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]")


def yaml_line(text: str, place: str) -> int | None:
    """The line (from 1) in YAML or JSON `text` of ``a.b[2].c``, or of the last step on the way that is there.

    None where there is none.
    """
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None
    if not isinstance(node, yaml.CollectionNode):
        return None
    line = node.start_mark.line
    for key, index in _STEP.findall(place if place.startswith("[") else f".{place}"):
        if isinstance(node, yaml.MappingNode):
            pairs = {pair[0].value: pair for pair in node.value if isinstance(pair[0], yaml.ScalarNode)}
            if key not in pairs:
                break
            line, node = pairs[key][0].start_mark.line, pairs[key][1]
        elif isinstance(node, yaml.SequenceNode) and index and int(index) < len(node.value):
            node = node.value[int(index)]
            line = node.start_mark.line
        else:
            break
    return int(line) + 1


def toml_line(text: str, place: str) -> int | None:
    """As `yaml_line`, for TOML with a key or table a line; else the line of the table."""
    parent, _, key = place.rpartition(".")
    counts: Counter[str] = Counter()
    table, nearest = "", None
    for number, line in enumerate(text.splitlines(), 1):
        if header := _TABLE.match(line):
            bracket, table = header.groups()
            if bracket == "[[":
                counts[table] += 1
                table = f"{table}[{counts[table] - 1}]"
            if table in (parent, place):
                nearest = number
        elif table == parent and re.match(rf"\s*{re.escape(key.partition('[')[0])}\s*=", line):
            return number
    return nearest
