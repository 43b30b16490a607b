"""A plug-in whose codec does, port by port, what a codec must not; installed for the process by a folder."""

from __future__ import annotations

from pathlib import Path

_CODEC = """
class Chaos:
    id, version = "chaos", "1"

    def decode(self, f_port, payload):
        match f_port:
            case 1: raise RuntimeError("bad day")
            case 2: raise SystemExit(3)
            case 3: return self.decode(f_port, payload)
            case 4: return {"x": 10**400}
            case 5: return {"x": float("nan")}
            case 6: return {"x": 1.0, "text": "a\\x00b"}
            case 7: return {1: object(), "x": 1.0}
            case 8: return {"x": 1.0, "text": "\\ud800"}
            case 9: return None
            case 10: return {"x": -1e308}
            case 11: raise MemoryError
            case 12: assert False, "\\x00\\ud800" * 5000
            case _: return {"x": 1.0}

    def encode(self, fields):
        raise NotImplementedError

CODEC = Chaos()
"""
PORTS = range(1, 13)


def install(folder: Path) -> str:
    """Write the plug-in there; the PYTHONPATH that makes it one."""
    information = folder / "quantrac_chaos-1.dist-info"
    information.mkdir(parents=True)
    (folder / "quantrac_chaos.py").write_text(_CODEC, encoding="utf-8")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: quantrac-chaos\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[quantrac.codecs]\nchaos = quantrac_chaos:CODEC\n")
    return str(folder)
