"""Who changed what over the API."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from .auth import Principal
from .database import Connection


async def audit(
    db: Connection, principal: Principal, action: str, target: object, detail: dict[str, Any] | None = None
) -> None:
    """Note one change, inside its transaction. `detail` must hold no secret."""
    await db.execute(
        "INSERT INTO audit (actor, action, object, detail) VALUES (%s, %s, %s, %s)",
        (principal.actor, action, str(target), Jsonb(detail or {})),
    )
