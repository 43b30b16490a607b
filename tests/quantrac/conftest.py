"""An installation, and a backup of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .backups import back_up, furnished


@pytest.fixture
def installation(database_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a database with something of everything in it."""
    return furnished(database_url, tmp_path)


@pytest.fixture
def backup(installation: dict[str, str], tmp_path: Path) -> Path:
    file = tmp_path / "a.backup"
    back_up(installation["QUANTRAC_DATABASE_URL"], file)
    return file
