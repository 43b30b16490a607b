"""Mosquitto under a private configuration. Settings: https://mosquitto.org/man/mosquitto-conf-5.html"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from quantrac.embedded.errors import EmbeddedServerError
from quantrac.embedded.files import write_private
from quantrac.embedded.roles import ROLES

_SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


@dataclass(frozen=True, slots=True)
class Mosquitto:
    """An installed Mosquitto with its password tool."""

    program: Path
    password_tool: Path

    kind = "mosquitto"
    warnings: tuple[str, ...] = ()

    @classmethod
    def find(cls) -> Mosquitto | None:
        """On PATH or where Debian puts it, which is not on every user's PATH."""
        program, tool = (shutil.which(name, path=_SEARCH) for name in ("mosquitto", "mosquitto_passwd"))
        return cls(Path(program), Path(tool)) if program and tool else None

    def version(self) -> str:
        help_text = subprocess.run([self.program, "-h"], capture_output=True, text=True).stdout
        found = re.search(r"version (\S+)", help_text)
        return found[1] if found else "unknown"

    def command(self, home: Path) -> list[str]:
        return [str(self.program), "-c", str(home / "mosquitto.conf")]

    def files(self, home: Path, host: str, port: int, passwords: dict[str, str]) -> dict[str, str]:
        """Configuration files by name; passwords are not in them."""
        settings = [
            ("listener", f"{port} {host}"),
            ("set_tcp_nodelay", "true"),
            ("allow_anonymous", "false"),
            ("password_file", home / "users"),
            ("acl_file", home / "acl"),
            ("persistence", "true"),
            ("persistence_location", f"{home / 'store'}/"),
            # Sessions and queues live in memory and reach the disk only at a save: what was acknowledged to a
            # publisher since the last one is gone after a kill -9 or a power cut. The default is 1800 s.
            ("autosave_interval", 1),
            # 1000 is the default, beyond which messages for a client that is away are dropped without a word.
            ("max_queued_messages", 0),
            # 20 is the default and bounds the rate of one subscriber to a fraction of what it can take.
            ("max_inflight_messages", 10000),
            ("max_packet_size", 5 * 1024 * 1024),
            ("log_dest", f"file {home / 'log' / 'mosquitto.log'}"),
            ("log_timestamp_format", "%Y-%m-%dT%H:%M:%S"),
            *(("log_type", kind) for kind in ("error", "warning", "notice")),
        ]
        if os.geteuid() == 0:
            # Else it drops to its own user, who cannot read our private files.
            settings.append(("user", "root"))
        acl = []
        for name, role in ROLES.items():
            acl.append(f"user {name}")
            acl += [f"topic write {topic}" for topic in role.publish]
            acl += [f"topic read {topic}" for topic in role.subscribe]
        configuration = "".join(f"{name} {value}\n" for name, value in settings)
        return {"mosquitto.conf": configuration, "acl": "\n".join(acl) + "\n"}

    def prepare(self, home: Path, passwords: dict[str, str]) -> None:
        """Write the hashed passwords; by a file, since arguments can be read by every user of the machine."""
        draft = home / "users.plain"
        write_private(draft, "".join(f"{user}:{password}\n" for user, password in passwords.items()))
        done = subprocess.run(
            [self.password_tool, "-U", draft], capture_output=True, text=True, errors="replace"
        )
        if done.returncode != 0:
            draft.unlink()
            raise EmbeddedServerError(f"mosquitto_passwd cannot hash {draft}", log=done.stderr)
        draft.replace(home / "users")
