"""A score in words: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import typer

from simulators.score import Finding, Score
from simulators.sheet import AnswerSheet

_HEADS = (
    *("rule", "level", "detected", "missed", "false", "fooled", "lingering"),
    *("delay", "worst", "told", "worst"),
)
_HAZARD_HEADS = ("hazard", "where", "begins", "found", "delay", "told")


def show(sheet: AnswerSheet, score: Score, *, as_json: bool = False) -> None:
    """On stdout. Delays are seconds."""
    if as_json:
        typer.echo(json.dumps(_data(sheet, score), indent=1, ensure_ascii=False))
        return
    if score.tallies:
        _table([_HEADS, *(tuple(map(_cell, tally.summary().values())) for tally in score.tallies)], words=1)
    elif sheet.targets:
        typer.echo(
            "no rule has a level that the sheet tells of; `quantrac rules apply` and register its devices"
        )
    else:
        typer.echo("no sensor's station has levels for what it measures")
    if score.findings:
        typer.echo("")
        _table([_HAZARD_HEADS, *map(_hazard, score.findings)], words=4)


def _data(sheet: AnswerSheet, score: Score) -> dict[str, Any]:
    return {
        "scenario": sheet.scenario,
        "seed": sheet.seed,
        "scores": [
            {
                **tally.summary(),
                "false_at": [at.isoformat() for at in tally.false_at],
                "fooled_at": [at.isoformat() for at in tally.fooled_at],
            }
            for tally in score.tallies
        ],
        "hazards": [
            {
                **finding.hazard.model_dump(mode="json"),
                "found": finding.found,
                "rules": finding.rules,
                "delay_s": finding.delay,
                "told_s": finding.told,
            }
            for finding in score.findings
        ],
    }


def _hazard(finding: Finding) -> tuple[str, ...]:
    hazard = finding.hazard
    count = len(hazard.gateways)
    where = hazard.station or f"{count} gateway{'s' * (count != 1)}"
    begins = f"{hazard.begins:%Y-%m-%d %H:%M}Z" if hazard.begins else "-"
    none = "no rule yet finds it" if hazard.found_by is None else f"no; a {hazard.found_by} rule could"
    found = ", ".join(finding.rules) or none
    return hazard.kind, where, begins, found, _cell(finding.delay), _cell(finding.told)


def _table(lines: Sequence[Sequence[str]], *, words: int) -> None:
    """The first columns hold words, to the left; the others numbers, to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = zip(line, widths, strict=True)
        texts = [
            cell.rjust(width) if i >= words else cell.ljust(width) for i, (cell, width) in enumerate(cells)
        ]
        typer.echo("  ".join(texts).rstrip())


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:,.0f}" if isinstance(value, float) else str(value)
