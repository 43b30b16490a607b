"""What every installation has from the start: the built-in device types, Vietnam's provinces."""

from __future__ import annotations

from importlib.resources import as_file, files

from decoders.device_types import builtin_device_types
from quantrac.imports.kinds import KINDS
from quantrac.imports.run import begin_import
from telemetry.store.master import save_device_type
from telemetry.store.pool import connect


def seed(url: str) -> None:
    """Write the built-in device types and the provinces; what somebody edited is left as it is."""
    with connect(url, application="quantrac migrate") as connection, connection.cursor() as cursor:
        for device_type in builtin_device_types().values():
            save_device_type(cursor, device_type.to_dict(), builtin=True)
        if cursor.execute("SELECT FROM admin_unit LIMIT 1").rowcount == 0:
            with as_file(files("quantrac").joinpath("provinces.csv")) as file:
                begin_import(connection, file, KINDS["units"])
