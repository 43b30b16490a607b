"""What every route may use, and how it asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from decoders.registry import Registry
from ingest.intake import Intake
from telemetry.clock import Clock
from telemetry.secrets import SecretBox
from telemetry.store.pool import Pool

from .credentials import Passwords
from .database import CONNECTION_SECONDS, Connection
from .exports.worker import ExportWorker
from .reads import Reads
from .scripts import Scripts
from .settings import ApiSettings
from .stream import Hub


@dataclass(frozen=True)
class Services:
    """One application's parts; `codecs` gives those of this machine; others are in the store.

    Asked for the first time, `codecs` may take a second: use a thread.
    """

    settings: ApiSettings
    pool: Pool
    reads: Reads
    clock: Clock
    hub: Hub
    box: SecretBox
    codecs: Callable[[], Registry]
    intake: Intake
    scripts: Scripts
    exports: ExportWorker
    passwords: Passwords = field(default_factory=Passwords)


def services_of(request: Request) -> Services:
    return cast(Services, request.app.state.services)


Svc = Annotated[Services, Depends(services_of)]


async def _connection(services: Svc) -> AsyncIterator[Connection]:
    async with services.pool.connection(CONNECTION_SECONDS) as connection:
        yield connection


Db = Annotated[Connection, Depends(_connection, scope="function")]
"""The one connection of a request; it goes back before the answer is sent."""


async def _read_connection(services: Svc) -> AsyncIterator[Connection]:
    async with services.reads.connection() as connection:
        yield connection


ReadDb = Annotated[Connection, Depends(_read_connection, scope="function")]
"""As `Db`, for heavy reads of series: on the replica, where there is one. What it gives may be some seconds
old, and nothing can be written over it. A request that has it should do without `Db`."""
