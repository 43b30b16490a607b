"""What the adapters can be told."""

from __future__ import annotations

from pydantic import Field

from telemetry.settings import Settings


class AdapterSettings(Settings):
    """Network servers beyond the built-in ones."""

    adapters_file: str = Field(
        default="",
        description="TOML file that declares other network servers' JSON messages; empty: none.",
    )
