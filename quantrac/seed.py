"""What every installation has from the start: the built-in device types."""

from __future__ import annotations

from decoders.device_types import builtin_device_types
from telemetry.store.master import save_device_type
from telemetry.store.pool import connect


def seed(url: str) -> None:
    """Write the built-in device types; those that somebody edited are left as they are."""
    with connect(url, application="quantrac migrate") as connection, connection.cursor() as cursor:
        for device_type in builtin_device_types().values():
            save_device_type(cursor, device_type.to_dict(), builtin=True)
