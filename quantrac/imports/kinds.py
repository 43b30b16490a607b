"""What can be imported: for each kind its columns, what else they are called, and how a row is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from alerting.rules import ladder_faults, shown_steps
from decoders.device_types import check_variables
from quantrac.tables import Row
from telemetry.catalogue import CATALOGUE
from telemetry.checks import parse_station_checks, stored_station_checks
from telemetry.errors import UsageError
from telemetry.store.imports import DEVICES, FACILITIES, GATEWAYS, OWNERS, STATIONS, UNITS, Target
from telemetry.threshold_checks import hushing, unreachable

from .cells import Cells
from .known import Known

LEVELS = {"province": 2, "district": 3, "commune": 5}
"""Levels of administrative units and the digits of their codes (Decision 19/2025/QĐ-TTg, 124/2004/QĐ-TTg)."""
_LEVEL_WORDS = {
    **dict.fromkeys(("tỉnh", "tinh", "thành phố trung ương", "1"), "province"),
    **dict.fromkeys(("huyện", "quận", "thị xã", "huyen", "quan", "2"), "district"),
    **dict.fromkeys(("xã", "phường", "đặc khu", "thị trấn", "ward", "xa", "phuong", "3"), "commune"),
}
_UNIT_CODE = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,31}")
_GATEWAY_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:-]{0,127}")
_STATION_TEXTS = ("name_en", "kind", "river", "basin", "source", "certainty")

_ANY = {"ma": "code", "ma_so": "code", "ten": "name", "ten_tieng_anh": "name_en", "loai": "kind"}
_ANY |= {"vi_do": "latitude", "lat": "latitude", "ghi_chu": "note", "dia_chi": "address"}
_ANY |= dict.fromkeys(("kinh_do", "lon", "lng", "long"), "longitude")
_ANY |= dict.fromkeys(("chu_so_huu", "ma_chu_so_huu", "don_vi_quan_ly"), "owner")
_ANY |= dict.fromkeys(("ma_dvhc", "ma_don_vi_hanh_chinh"), "unit")
_ANY |= {"nguon": "source", "do_tin_cay": "certainty", "mo_phong": "simulated"}


@dataclass(frozen=True)
class Kind:
    """`check` makes of the cells of a row what `target` stores, and notes the faults; without `known` what
    only the database can tell is not looked at."""

    target: Target
    columns: tuple[str, ...]
    aliases: Mapping[str, str]
    check: Callable[[Cells, Known | None], Row]

    @property
    def name(self) -> str:
        return self.target.name


def _refer(cells: Cells, key: str, known: set[str] | None, what: str) -> str | None:
    """A code that must be there already."""
    code = cells.text(key)
    if not code:
        return None
    if known is not None and code not in known:
        cells.fault(f"{key}: there is no {code!r}; import the {what} first")
    return code


def _belonging(cells: Cells, known: Known | None, *keys: str) -> Row:
    made: Row = {}
    for key in cells.given(*keys):
        if key == "unit":
            made["unit"] = cells.text("unit") or None
            if made["unit"] and known is not None:
                made["unit"], problem = known.unit(made["unit"])
                if problem:
                    cells.fault(f"unit: {problem}")
        elif key == "owner":
            made["owner"] = _refer(cells, key, known.owners if known else None, "owners")
        else:
            made["facility"] = _refer(cells, key, known.facilities if known else None, "facilities")
    return made


def _station(cells: Cells, known: Known | None) -> Row:
    code, name = cells.code("code"), cells.name()
    thresholds = cells.json_object("thresholds")
    latitude, longitude = cells.coordinates()
    made = {
        "code": code,
        "name": name,
        **{key: cells.text(key, "other" if key == "kind" else "") for key in _STATION_TEXTS},
        "latitude": latitude,
        "longitude": longitude,
        "thresholds": thresholds,
        "simulated": cells.boolean("simulated"),
        **_belonging(cells, known, "unit", "owner", "facility"),
    }
    if cells.text("admin_unit"):  # left empty it is the name of the unit, or what is known
        made["admin_unit"] = cells.text("admin_unit")
    checks = stored_station_checks(known.checks.get(code, "{}") if known is not None else "{}")
    if cells.given("quality"):
        made["quality"] = cells.json_object("quality")
        try:
            checks = parse_station_checks(made["quality"], CATALOGUE)
        except UsageError as error:
            for line in str(error).splitlines():
                cells.fault(f"quality.{line}")
    for metric, levels in thresholds.items():
        if metric not in CATALOGUE:
            cells.fault(f"thresholds.{metric}: unknown metric")
        elif not isinstance(levels, list):
            cells.fault(f"thresholds.{metric}: a list of {{level, label, value}} is needed, got {levels!r}")
        else:
            for line in ladder_faults(levels):
                cells.fault(f"thresholds.{metric}{line}")
            if len(levels) > 1 and not ladder_faults(levels) and ladder_faults(levels, ("above",)):
                cells.warnings.append(  # right for low water, a slip otherwise
                    f"{code}: thresholds.{metric} fall ({shown_steps(levels)}); "
                    "only rules with `direction: below` use them"
                )
    sound = {
        metric: levels
        for metric, levels in thresholds.items()
        if metric in CATALOGUE and isinstance(levels, list) and not ladder_faults(levels)
    }
    for line in unreachable(checks, sound):
        cells.fault(f"quality.{line}")
    cells.warnings += [f"{code}: quality.{line}" for line in hushing(checks, sound)]
    return made


def _device(cells: Cells, known: Known | None) -> Row:
    eui = cells.text("dev_eui").lower().replace(":", "").replace("-", "")
    if not re.fullmatch("[0-9a-f]{16}", eui):
        cells.fault(f"dev_eui: {cells.row.get('dev_eui', '')!r} is no 64-bit identifier in hex")
    device_type, station = cells.text("device_type"), cells.text("station") or None
    variables = cells.variables()
    if station and known is not None and station not in known.stations:
        near = known.near(station, known.stations)
        cells.fault(f"station: there is no {station!r}{near}; import the stations first")
    if not device_type:
        cells.fault("device_type: missing; GET /api/v1/device-types lists them")
    elif known is not None and device_type not in known.mappings:
        near = known.near(device_type, known.mappings)
        cells.fault(f"device_type: there is no {device_type!r}{near}; GET /api/v1/device-types lists them")
    elif known is not None:
        unknown, missing = check_variables(known.mappings[device_type], variables)
        for name in unknown:
            near = known.near(name, missing)
            cells.fault(f"variables.{name}: a {device_type} has no use for it{near}")
        for name in missing:
            cells.warnings.append(f"variables.{name}: missing; without it this {device_type} gives less")
    made: Row = {
        "dev_eui": eui,
        "name": cells.text("name"),
        "status": "active",
        "device_type": device_type,
        "station": station,
        "variables": variables,
        "simulated": cells.boolean("simulated"),
    }
    if cells.text("firmware"):  # left empty, what is known stays
        made["firmware"] = cells.text("firmware")
    return made


def _gateway(cells: Cells, known: Known | None) -> Row:
    given = cells.text("gateway_id")
    bare = given.lower().replace(":", "").replace("-", "")
    gateway_id = bare if re.fullmatch("[0-9a-f]{16}", bare) else given
    if not _GATEWAY_ID.fullmatch(gateway_id):
        cells.fault(f"gateway_id: {given!r}: an EUI or the name that the network server uses is needed")
    made: Row = {
        "gateway_id": gateway_id,
        **{key: cells.text(key) for key in cells.given("name", "network", "place", "note")},
        **cells.maybe_coordinates(),
        **_belonging(cells, known, "owner"),
    }
    for key in cells.given("altitude"):
        made[key] = cells.number(key, 10_000) if key in cells.row else None
    return made


def _owner(cells: Cells, _: Known | None) -> Row:
    texts = cells.given("name_en", "kind", "address", "contact", "note")
    return {"code": cells.code("code"), "name": cells.name(), **{key: cells.text(key) for key in texts}}


def _facility(cells: Cells, known: Known | None) -> Row:
    texts = cells.given("name_en", "kind", "sector", "address", "permit", "note")
    return {
        "code": cells.code("code"),
        "name": cells.name(),
        **{key: cells.text(key) for key in texts},
        **{key: cells.day(key) for key in cells.given("permit_from", "permit_to")},
        **cells.maybe_coordinates(),
        **_belonging(cells, known, "owner", "unit"),
    }


def _unit(cells: Cells, _: Known | None) -> Row:
    level = cells.one_of("level", tuple(LEVELS), _LEVEL_WORDS)
    code = _unit_code(cells, "code", cells.text("code"), LEVELS.get(level, 0))
    parent = cells.text("parent") or None
    above = 3 if parent and len(parent) == 3 else 2
    start, end = cells.day("valid_from"), cells.day("valid_to")
    if start and end and end <= start:
        cells.fault(f"valid_to: {end} does not lie after {start}; it is the first day without the unit")
    heirs = re.split(r"[\s,;|]+", cells.text("successors"))
    successors = [_unit_code(cells, "successors", heir, LEVELS.get(level, 0)) for heir in heirs if heir]
    if successors and not end:
        cells.fault("successors: valid_to is missing; a unit without an end has none")
    return {
        "code": code,
        "name": cells.name(),
        "level": level,
        "valid_from": start,
        "valid_to": end,
        "parent": parent and _unit_code(cells, "parent", parent, above),
        "successors": successors,
        **{key: cells.text(key) for key in cells.given("name_en", "source", "certainty")},
    }


def _unit_code(cells: Cells, key: str, value: str, digits: int) -> str:
    code = value.zfill(digits) if value.isdigit() else value
    if code != value:
        cells.warnings.append(f"{key}: {value} is read as {code}")
    if not _UNIT_CODE.fullmatch(code):
        cells.fault(f"{key}: {value!r}: letters, digits, '.', '_' and '-' are needed")
    return code


_PLACE = ("latitude", "longitude")
KINDS = {
    "stations": Kind(
        STATIONS,
        ("code", "name", "name_en", "kind", "river", "basin", "admin_unit", "source", "certainty", *_PLACE,
         "thresholds", "quality", "simulated", "unit", "owner", "facility"),
        _ANY | {"ma_tram": "code", "ten_tram": "name", "loai_tram": "kind", "song": "river",
                "nguong": "thresholds",
                "luu_vuc": "basin", "don_vi_hanh_chinh": "admin_unit", "dia_ban": "admin_unit",
                "co_so": "facility", "ma_co_so": "facility"},
        _station,
    ),
    "devices": Kind(
        DEVICES,
        ("dev_eui", "name", "device_type", "station", "variables", "firmware", "simulated"),
        {"ten": "name", "ten_thiet_bi": "name", "deveui": "dev_eui", "ma_thiet_bi": "dev_eui",
         "tram": "station", "ma_tram": "station", "loai_thiet_bi": "device_type", "bien": "variables",
         "mo_phong": "simulated", "phien_ban": "firmware"},
        _device,
    ),
    "gateways": Kind(
        GATEWAYS,
        ("gateway_id", "name", "network", "place", "owner", *_PLACE, "altitude", "note"),
        _ANY | {"ma": "gateway_id", "ma_gateway": "gateway_id", "gateway_eui": "gateway_id",
                "eui": "gateway_id", "mang": "network", "vi_tri": "place", "dia_diem": "place",
                "do_cao": "altitude"},
        _gateway,
    ),
    "owners": Kind(
        OWNERS,
        ("code", "name", "name_en", "kind", "address", "contact", "note"),
        _ANY | {"lien_he": "contact"},
        _owner,
    ),
    "facilities": Kind(
        FACILITIES,
        ("code", "name", "name_en", "kind", "sector", "address", "owner", "unit", *_PLACE, "permit",
         "permit_from", "permit_to", "note"),
        _ANY | {"ma_co_so": "code", "ten_co_so": "name", "nganh": "sector", "nganh_nghe": "sector",
                "giay_phep": "permit", "so_giay_phep": "permit", "ngay_cap": "permit_from",
                "ngay_het_han": "permit_to"},
        _facility,
    ),
    "units": Kind(
        UNITS,
        ("code", "name", "name_en", "level", "parent", "valid_from", "valid_to", "successors", "source",
         "certainty"),
        _ANY | {"cap": "level", "truc_thuoc": "parent", "ma_cap_tren": "parent", "tu_ngay": "valid_from",
                "hieu_luc_tu": "valid_from", "den_ngay": "valid_to", "hieu_luc_den": "valid_to",
                "sap_nhap_vao": "successors", "ke_thua": "successors"},
        _unit,
    ),
}  # fmt: skip
"""By the word of the command line."""
