"""Settings of the API service."""

from __future__ import annotations

from pydantic import Field

from telemetry.settings import Settings


class ApiSettings(Settings):
    """Where the API listens and whom it believes."""

    api_host: str = Field(default="127.0.0.1", description="Address the API and the page listen on.")
    api_port: int = Field(default=8000, ge=0, le=65535, description="Port of the API and the page.")
    api_base_url: str = Field(
        default="",
        pattern=r"^(https?://[^/?#\s]+/?)?$",
        description="Public address when a proxy stands in front, such as https://quantrac.example.vn.",
    )
    session_hours: float = Field(default=12, gt=0, le=720, description="Hours after which a login ends.")
    export_dir: str = Field(
        default="",
        description="Folder of the files that exports are made into; empty: exports in the data folder. "
        "Several API processes need the same.",
    )
    export_days: float = Field(default=7, gt=0, le=365, description="Days after which an export is removed.")
    export_space: int = Field(default=20, ge=1, description="GiB that all exports together may take.")
    metrics_open: bool = Field(
        default=False,
        description="Whether this machine itself may read /metrics without a key. Leave it off behind a "
        "proxy on the same machine that does not send X-Forwarded-For.",
    )
