"""The documentation says what the code does: generated pages, links, and every name that it uses."""

from __future__ import annotations

import re
import tomllib
from inspect import getclosurevars, getsource, isfunction
from pathlib import Path
from typing import Any

import psycopg
import pytest

from alerting.outbox import EVENT_TYPES
from alerting.rules import _KEYS
from api.app import _RESOURCES
from decoders.javascript.calls import RETRYABLE
from ingest.adapters.chirpstack_v4 import EVENTS
from ingest.adapters.tts_v3 import _EVENT_BODIES
from ingest.horizon import TOO_OLD
from quantrac import reference, up
from quantrac.all_settings import ALL_SETTINGS
from telemetry.settings import FILE_VARIABLE, PREFIX
from telemetry.store.writer import HELD_UP

from .pages import DOCS, PAGES, ROOT, code_lines, name_of, section, spans, table_rows

each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)
_TEST_VARIABLE = "QUANTRAC_TEST_DATABASE_URL"
_PACKAGES = "quantrac|api|ingest|alerting|simulators|decoders|telemetry|tests|docs|deploy"


@pytest.mark.parametrize("path", reference.PAGES)
def test_generated(path: str) -> None:
    made = reference.PAGES[path]()
    assert (ROOT / path).read_text(encoding="utf-8") == made, "run `python -m quantrac.reference`"


def test_every_room_is_in_the_settings_page() -> None:
    assert set(reference.SECTIONS.values()) == set(ALL_SETTINGS)


def test_settings_file_gives_the_defaults() -> None:
    lines = (ROOT / "quantrac.toml.example").read_text(encoding="utf-8").splitlines()
    values = tomllib.loads("\n".join(line[2:] for line in lines if re.match(r"# \w+ = ", line)))
    assert set(values) == {name for cls in ALL_SETTINGS for name in cls.model_fields}
    for cls in ALL_SETTINGS:
        own = {name: value for name, value in values.items() if name in cls.model_fields}
        told, plain = cls(**own).model_dump(), cls().model_dump()
        assert {k: v for k, v in told.items() if k not in reference.COMPUTED} == {
            k: v for k, v in plain.items() if k not in reference.COMPUTED
        }


def test_tutorial_shows_what_up_prints() -> None:
    said = re.findall(r'f?"(  (?!note)[a-zA-Z][^"{]*)', getsource(up._announce))
    assert len(said) >= 5
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    for words in said:
        assert words in text


def _anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@each_page
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), target


def test_index_names_every_page() -> None:
    linked = {
        (DOCS / target).resolve()
        for target in re.findall(r"\]\(([^)#\s]+)\)", (DOCS / "index.md").read_text(encoding="utf-8"))
    }
    assert {page for page in DOCS.rglob("*.md") if page.name != "index.md"} <= linked


@each_page
def test_settings_exist(page: Path) -> None:
    known = {PREFIX + name.upper() for cls in ALL_SETTINGS for name in cls.model_fields}
    named = set(re.findall(r"QUANTRAC_[A-Z][A-Z_]*[A-Z]", page.read_text(encoding="utf-8")))
    assert named <= known | {FILE_VARIABLE, _TEST_VARIABLE}


@each_page
def test_commands_and_their_options_exist(page: Path) -> None:
    tree = dict(reference.command_tree())
    for line in code_lines(page.read_text(encoding="utf-8")):
        for words in re.findall(r"(?:^|[\s($/])quantrac ([a-z][^)|`#>]*)", line):
            first, *rest = words.split()
            path = f"{first} {rest[0]}" if hasattr(tree.get(first), "commands") and rest else first
            assert path in tree, line
            options = {opt for p in getattr(tree[path], "params", ()) for opt in p.opts} | {"--help"}
            assert {word for word in rest if word.startswith("--")} <= options, line


@each_page
def test_paths_exist(page: Path) -> None:
    for span in spans(page.read_text(encoding="utf-8")):
        if re.fullmatch(rf"({_PACKAGES})/[\w./-]*", span):
            assert (ROOT / span).exists(), span


def test_architecture_tells_where_to_add() -> None:
    text = section((DOCS / "architecture.md").read_text(encoding="utf-8"), "## Where do I add …")
    rows = [line for line in text.splitlines() if line.startswith(("| a ", "| another "))]
    for what in ("a codec", "a device type", "a rule", "a route", "an adapter", "a metric", "a setting"):
        assert f"\n| {what} " in text, what
    assert len(rows) > 9
    for span in spans(text):
        if "/" in span and " " not in span and "<" not in span:
            assert (ROOT / span).exists(), span
    for name, path in re.findall(r"`([A-Z_]+)` of `([^`]+)`", text):
        assert re.search(rf"^(const )?{name}\b", (ROOT / path).read_text(encoding="utf-8"), re.M), name


def _needed_role(dependant: Any) -> str | None:
    for dependency in dependant.dependencies:
        if isfunction(dependency.call):
            role = getclosurevars(dependency.call).nonlocals.get("role")
            if role is not None:
                return str(role)
        if (role := _needed_role(dependency)) is not None:
            return role
    return None


def _routes() -> dict[tuple[str, str], str]:
    return {
        (method, route.path): _needed_role(route.dependant) or "anybody"
        for resource in _RESOURCES
        for route in resource.router.routes
        for method in route.methods
    }


def test_api_page_has_every_route_with_its_role() -> None:
    text = section((DOCS / "reference" / "api.md").read_text(encoding="utf-8"), "## Routes")
    told = {}
    for call, role, _ in table_rows(text)[1:]:
        method, _, path = call.partition(" ")
        told[method, path] = role
    assert told == _routes()


def _matches(path: str, template: str) -> bool:
    parts, known = path.split("/"), template.split("/")
    return len(parts) == len(known) and all(
        b.startswith("{") or a == b for a, b in zip(parts, known, strict=True)
    )


@each_page
def test_api_paths_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("$API", "/api/v1")
    known = [path for _, path in _routes()] + ["/api/v1/openapi.json"]
    for path in re.findall(r"/api/v1/[\w{}./-]*\w[\w{}/-]*", text):
        assert any(_matches(path, template) for template in known), path
    for method, path in re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`?]+)", text):
        assert any(m == method and _matches(path, template) for m, template in _routes()), (method, path)


def test_every_reject_reason_is_explained() -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "ingest").rglob("*.py"))
    raised = set(re.findall(r'BadMessage\(\s*"(\w+)"', code)) | set(re.findall(r'reason="(\w+)"', code))
    raised |= {
        "empty",
        "not_json",
        TOO_OLD,
        HELD_UP,
        "not_storable",
        *(f"codec_{failure}" for failure in RETRYABLE),
    }
    text = section((DOCS / "reference" / "messages.md").read_text(encoding="utf-8"), "## Rejects")
    assert {row[0] for row in table_rows(text)[1:]} == raised


def test_every_event_is_told() -> None:
    told = set(spans((DOCS / "reference" / "messages.md").read_text(encoding="utf-8")))
    assert set(EVENTS) | {kind for kind, _ in _EVENT_BODIES} <= told


def test_every_key_of_a_rule_is_told() -> None:
    text = section((DOCS / "how-to" / "rules.md").read_text(encoding="utf-8"), "## Keys")
    assert {row[0] for row in table_rows(text)[1:]} == set(_KEYS)


def test_every_webhook_type_is_told() -> None:
    text = section((DOCS / "how-to" / "webhooks.md").read_text(encoding="utf-8"), "## The message")
    told = {span for span in spans(text) if re.fullmatch(r"(alert|system|endpoint)\.\w+", span)}
    assert told == {*EVENT_TYPES, "endpoint.test"}


def test_store_page_has_the_tables(database: psycopg.Connection[dict[str, Any]]) -> None:
    rows = database.execute(
        "SELECT c.relname AS name, a.attname AS col, format_type(a.atttypid, a.atttypmod) AS type"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'v') AND attnum > 0"
        " AND NOT attisdropped"
    ).fetchall()
    text = (DOCS / "reference" / "store.md").read_text(encoding="utf-8")
    tables = {row["name"] for row in rows}
    headings = re.findall(r"^### (\w+)$", text, re.M)
    assert tables <= {*spans(text), *headings}
    for table in headings:
        real = {
            row["col"]: row["type"].replace("timestamp with time zone", "timestamptz")
            for row in rows
            if row["name"] == table and (table, row["col"]) != ("transition", "machine")
        }
        told = {row[0]: row[1] for row in table_rows(section(text, f"### {table}"))[1:]}
        assert told == real, table
