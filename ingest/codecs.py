"""All codecs of a process: those in Python, those of the user's folder, and the workers for JavaScript."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import structlog

from decoders.folder import read_folder
from decoders.javascript.workers import JsWorkers
from decoders.registry import Registry, load_codecs

from .javascript import JavaScript
from .settings import IngestSettings

_log = structlog.get_logger()


class Codecs(NamedTuple):
    """What of them does not lie in the store, and the workers; who opened these closes them."""

    registry: Registry
    javascript: JavaScript


def open_codecs(settings: IngestSettings) -> Codecs:
    """Load them; what cannot be used is logged and costs nothing else."""
    registry, workers = load_codecs(), JsWorkers(settings.codec_workers)
    if settings.codecs_dir:
        registry = registry.with_scripts(*read_folder(Path(settings.codecs_dir), workers))
    for problem in registry.problems:
        _log.warning("plugin_unusable", problem=problem)
    return Codecs(registry, JavaScript(workers))
