"""Small checkouts of both device repositories, written by us."""

from __future__ import annotations

from pathlib import Path

CODEC = """\
function decodeUplink(input) {
  if (input.fPort !== 1) {
    return { errors: ['unknown fPort'] };
  }
  return {
    data: { level: input.bytes[0] / 10, state: input.bytes[1] ? 'on' : 'off', code: input.bytes[2] },
    warnings: input.bytes[0] > 200 ? ['high'] : [],
  };
}

function normalizeUplink(input) {
  return { data: { water: { level: input.data.level / 100 } } };
}

function encodeDownlink(input) {
  if (input.command) {
    return { fPort: 2, bytes: [input.command, 0] };
  }
  if (typeof input.data.minutes !== 'number') {
    return { errors: ['minutes is missing'] };
  }
  return { fPort: 2, bytes: [input.data.minutes] };
}

function decodeDownlink(input) {
  return { data: { minutes: input.bytes[0] } };
}
"""

TTN = {
    "vendor/index.yaml": """\
vendors:
  - id: example
    name: Example
    vendorID: 0
    draft: true
  - id: river-works
    name: River Works IoT Co., Ltd
    vendorID: 1
  - id: no-device
    name: Member Only AG
""",
    "vendor/example/index.yaml": "endDevices: [toy]\n",
    "vendor/example/toy.yaml": "name: Toy\nfirmwareVersions: [{version: '1', profiles: {AS923: {id: p}}}]\n",
    "vendor/river-works/index.yaml": "endDevices:\n  - rw100\n  - rw200\n",
    "vendor/river-works/rw100.yaml": """\
name: RW100 - Ultrasonic level
description: Measures a river.
hardwareVersions: [{version: '1.0', numeric: 1}]
firmwareVersions:
  - version: '1.10'
    numeric: 1
    hardwareVersions: ['1.0']
    profiles:
      EU863-870: {id: profile, codec: rw100-codec}
      AS923: {id: profile, codec: rw100-codec}
  - version: '2.0'
    numeric: 2
    profiles:
      EU863-870: {id: profile, codec: rw100-codec}
      US902-928: {id: profile}
sensors: [distance, battery]
photos: {main: rw100.png}
""",
    "vendor/river-works/rw200.yaml": """\
name: River Works RW200
firmwareVersions:
  - version: '1.0'
    profiles:
      EU863-870: {id: profile, codec: rw100-codec}
""",
    "vendor/river-works/rw100-codec.yaml": """\
uplinkDecoder:
  fileName: rw100.js
  examples:
    - description: on, by words that YAML 1.1 takes for booleans
      input: {fPort: 1, bytes: [0x15, 1, 017]}
      output:
        data: {level: 2.1, state: on, code: 17}
      normalizedOutput:
        data:
          - water: {level: 0.021}
    - description: high
      input: {fPort: 1, bytes: [210, 0, 0]}
      output:
        data: {level: 21.0, state: off, code: 0}
        warnings: [high]
    - description: other port
      input: {fPort: 9, bytes: []}
      output: {errors: [unknown fPort]}
downlinkEncoder:
  fileName: rw100.js
  examples:
    - description: interval
      input: {data: {minutes: 1e1}}
      output: {fPort: 2, bytes: [10]}
    - description: a member of its own
      input: {data: {}, command: 4}
      output: {fPort: 2, bytes: [4, 0]}
    - description: nothing to send
      input: {data: {}}
      output: {errors: [minutes is missing]}
downlinkDecoder:
  fileName: rw100.js
  examples:
    - description: interval
      input: {fPort: 2, bytes: [10]}
      output: {data: {minutes: 10}}
""",
    "vendor/river-works/rw100.js": CODEC,
    "vendor/river-works/unnamed-codec.yaml": "uplinkDecoder: {fileName: missing.js}\n",
}

CHIRPSTACK = {
    "vendors/example-vendor/vendor.toml": '[vendor]\nname = "Example"\n',
    "vendors/example-vendor/devices/toy.toml": '[device]\nname = "Toy"\n',
    "vendors/river-works/vendor.toml": '[vendor]\nname = "River Works"\n',
    "vendors/river-works/devices/river-works-rw300.toml": """\
[device]
name = "River Works RW300"
description = "Measures a lake."

[[device.firmware]]
version = "1.0"
profiles = ["EU868-1_0_3.toml", "AS923-1_0_3.toml", "EU868-1_0_4.toml"]
codec = "rw300-01.js"
""",
    "vendors/river-works/profiles/EU868-1_0_3.toml": '[profile]\nregion = "EU868"\n',
    "vendors/river-works/profiles/EU868-1_0_4.toml": '[profile]\nregion = "EU868"\n',
    "vendors/river-works/profiles/AS923-1_0_3.toml": '[profile]\nregion = "AS923"\n',
    "vendors/river-works/codecs/rw300-01.js": """\
function decodeUplink(input) {
  const at = new Date(input.recvTime).toISOString();
  return { data: { level: input.bytes[0], at: at, gain: input.variables.gain } };
}
function encodeDownlink(input) {
  return { bytes: [input.data.minutes] };
}
""",
    "vendors/river-works/codecs/test_decode_rw300.json": """\
[
  {
    "name": "level",
    "input": {
      "fPort": 1,
      "bytes": [7],
      "recvTime": "2024-05-02T20:00:00.250+00:00",
      "variables": {"gain": "2"}
    },
    "expected": {"data": {"level": 7.0, "at": "2024-05-02T20:00:00.250Z", "gain": "2"}}
  }
]
""",
    "vendors/river-works/codecs/test_encode_rw300-01.json": """\
[{"description": "interval", "input": {"data": {"minutes": 3}}, "expected": {"bytes": [3]}}]
""",
}


def write(root: Path, tree: dict[str, str], changed: dict[str, str] | None = None) -> Path:
    """Write a tree; `changed` gives other text to the files that it names by the last part."""
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((changed or {}).get(path.name, text), encoding="utf-8")
    return root
