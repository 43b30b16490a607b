"""What the paper of a codec (its README.md) must tell."""

from __future__ import annotations

from collections.abc import Iterable

WORDS = {
    "**port**": "which port",
    "no reading": "which values are no reading",
    "refused": "what is refused",
    "sources": "its sources",
}


def lacking(readme: str, sources: Iterable[str]) -> list[str]:
    """A sentence for each thing that a README does not tell."""
    faults = [
        f"does not say {what}: write {word!r}" for word, what in WORDS.items() if word not in readme.lower()
    ]
    return faults + [f"does not name the source {source}" for source in sources if source not in readme]
