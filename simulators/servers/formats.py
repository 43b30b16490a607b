"""Which network servers can be simulated."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from . import Format, Server, chirpstack_v3, chirpstack_v4, chirpstack_v4_protobuf, tts_v3

FORMATS: Mapping[Format, Server] = MappingProxyType(
    {
        "chirpstack-v4": chirpstack_v4.SERVER,
        "chirpstack-v4.0": chirpstack_v4.SERVER_4_0,
        "chirpstack-v4-protobuf": chirpstack_v4_protobuf.SERVER,
        "chirpstack-v3": chirpstack_v3.SERVER,
        "tts-v3": tts_v3.SERVER,
    }
)
