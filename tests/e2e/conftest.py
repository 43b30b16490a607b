"""The whole of Quantrac on a data folder of its own, as `quantrac up` brings it up."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx

from tests.ports import free_port
from tests.program import Program, run
from tests.wait import PATIENCE, until

PASSWORD = "mật-khẩu-của-trạm-2026"


class Installation:
    """A data folder, and the `quantrac up` that may be running on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {"QUANTRAC_WEBHOOK_ALLOW": "127.0.0.0/8"}
        self.program: Program | None = None
        self._key: str | None = None

    async def start(self, *more: str) -> None:
        self.program = Program(
            "up",
            *more,
            "--data",
            str(self.folder),
            "--port",
            str(self.port),
            env=self.env,
            cwd=self.folder.parent,
        )
        await until(lambda: "Quantrac is running" in self.output or self.program.status is not None, 90)  # type: ignore[union-attr]
        assert self.program.status is None, self.output

    @property
    def output(self) -> str:
        return self.program.output if self.program else ""

    @property
    def first_password(self) -> str:
        found = re.search(r"as admin with (\S+)", self.output)
        assert found, self.output
        return found[1]

    def command(self, *arguments: str) -> str:
        done = run(*arguments, "--data", str(self.folder), env=self.env, cwd=self.folder.parent)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.command("status", "--json")))

    def client(self) -> httpx.Client:
        """The API with an admin's key."""
        if self._key is None:
            self._key = self.command("key", "create", "--role", "admin", "--name", "test")
        return httpx.Client(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": f"Bearer {self._key}"},
            trust_env=False,
            timeout=PATIENCE,
        )

    def runtime(self) -> dict[str, Any]:
        """Where the embedded servers are."""
        return dict(json.loads((self.folder / "runtime.json").read_text(encoding="utf-8")))

    def broker_url(self, role: str) -> str:
        return str(self.runtime()["mqtt_urls"][role])

    def services(self) -> list[int]:
        """Processes of `quantrac` that use this folder, `up` itself left out."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"quantrac" in command and str(self.folder).encode() in command and b"up" not in command:
                    found.append(int(entry.name))
        return found

    async def stop(self) -> None:
        if self.program is not None and self.program.status is None:
            await asyncio.to_thread(self.program.stop)
