"""What is wrong with an installation, and what to do about it."""

from __future__ import annotations

from quantrac.context import Context

from .broker import check_broker
from .database import check_database
from .finding import Finding
from .ingest import check_ingest
from .keeping import check_keeping
from .settings import check_disk, check_settings

__all__ = ["Finding", "examine"]


def examine(context: Context) -> list[Finding]:
    """Look at everything; a fault in one place does not keep the others from being looked at."""
    return [
        *check_settings(),
        *check_disk(context),
        *check_database(context),
        *check_keeping(context),
        *check_broker(context),
        *check_ingest(context),
    ]
