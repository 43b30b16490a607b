"""What is asked of a codec and what comes back; the vocabulary of the pool and its worker processes."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Function = Literal["decode_uplink", "encode_downlink", "decode_downlink", "normalize_uplink"]

Failure = Literal[
    "source",  # the file is no JavaScript the engine can parse
    "missing",  # the codec has no such function
    "threw",  # the codec threw
    "output",  # what it returned is not what its kind of function returns, or too large
    "timeout",  # it used up its time and was stopped
    "memory",  # it used up its memory
    "stack",  # it recursed too deeply
    "crash",  # its worker process died of it
    "quarantine",  # it hung, crashed or failed slowly lately and is left alone for a while
]
RETRYABLE: frozenset[str] = frozenset({"timeout", "crash", "quarantine"})

SLOW_MICROS = 25_000  # a call that failed after so long counts like one that timed out


class Call(msgspec.Struct, array_like=True):
    """One call of one codec.

    `codec` is what `JsWorkers.add` returned. `payload` are the frame's bytes (decoding only), `recv_time_us`
    is when it was received (µs since 1970, UTC) and what the codec's clock shows. `variables` are the
    device's. `data` is what `encode_downlink` is to encode, or what `normalize_uplink` is to normalise.
    `more` are further members of the input object, which examples have and no network server sends.
    """

    codec: str
    function: Function
    f_port: int = 0
    payload: bytes = b""
    recv_time_us: int = 0
    variables: dict[str, Any] = {}
    data: Any = None
    more: dict[str, Any] = {}


class Outcome(msgspec.Struct, omit_defaults=True):
    """What became of a call.

    It went well when `errors` is empty. Then `data` is what the codec returned: for `decode_uplink` and
    `decode_downlink` a dict of fields (or None, with warnings only), for `normalize_uplink` a dict or a list
    of dicts, for `encode_downlink` ``{"bytes": [0..255, …]}`` with ``"fPort"`` when the codec gave one.
    `errors` are the codec's own; or, when `failure` is set, one sentence on why there is no result.
    `micros` is the wall-clock time of the call in µs. `retryable`: the same call may succeed later.
    """

    data: Any = None
    warnings: list[str] = []
    errors: list[str] = []
    console: list[str] = []
    failure: Failure | None = None
    micros: int = 0

    @property
    def retryable(self) -> bool:
        return self.failure in RETRYABLE
