"""`codecs test`: the examples of codecs, wherever they lie, run and told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path

from decoders.devicerepo.checkout import find_checkout
from decoders.devicerepo.model import Problem
from decoders.devicerepo.run import run_checkout
from decoders.devicerepo.single import is_single, open_single
from decoders.javascript.workers import JsWorkers
from decoders.registry import Registry
from decoders.vectors import run_vectors
from telemetry.errors import UsageError

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Tested:
    """`failed` and `skipped` are told to a person; `passed` counts by what was asked of the codec."""

    passed: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)

    def reasons(self) -> Counter[str]:
        """Why something was skipped, without the details that differ from file to file."""
        return Counter(problem.message.partition(":")[0] for problem in self.skipped)


def check_folder(folder: Path, registry: Registry, workers: JsWorkers, progress: Progress) -> Tested:
    """Run what lies in a folder: a repository's checkout, one vendor's codec, or a Python codec's vectors.

    Raises:
        UsageError: it is none of these.
    """
    checkout = find_checkout(folder)
    if checkout is None and is_single(folder):
        checkout = open_single(folder)
    if checkout is not None:
        report = run_checkout(checkout, workers, progress)
        passed: Counter[str] = Counter({str(name): count for name, count in report.passed.items()})
        return Tested(passed, [str(miss) for miss in report.failed], report.skipped)
    if not (folder / "vectors.json").is_file():
        raise UsageError(
            f"{folder} is no checkout of a device repository and holds neither a vendor's codec (*.js) nor "
            "vectors.json"
        )
    return _test_python(registry, [(folder.resolve().name.replace("_", "-"), folder)])


def check_installed(registry: Registry) -> Tested:
    """Run the vectors beside every installed Python codec."""
    tested = Tested()
    for id_ in registry.ids():
        package = type(registry.get(id_)).__module__.rpartition(".")[0]
        with as_file(files(package)) as folder:
            if (folder / "vectors.json").is_file():
                one = _test_python(registry, [(id_, folder)])
                tested.passed += one.passed
                tested.failed += one.failed
    return tested


def _test_python(registry: Registry, folders: Iterable[tuple[str, Path]]) -> Tested:
    tested = Tested()
    for codec, folder in folders:
        for result in run_vectors(registry.get(codec), folder):
            if result.passed:
                tested.passed["decode_uplink"] += 1
            else:
                tested.failed.append(f"{codec}: {result.name}: {result.difference}")
    return tested
