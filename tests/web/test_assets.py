"""The page's files hold together: nothing from outside, nothing inline, nothing missing, two languages."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath

import pytest

WEB = Path(__file__).parents[2] / "api" / "web"
STATIC = WEB / "static"
VENDOR = WEB / "vendor"
ABOUT_VENDOR = {"THIRD_PARTY.md", "LICENSES.txt"}
OWN_MODULES = sorted(STATIC.rglob("*.js"))
VENDORED_SCRIPTS = sorted(VENDOR.glob("*.js"))
STYLES = [*sorted(STATIC.glob("*.css")), *sorted(VENDOR.glob("*.css"))]
PAGES = sorted(WEB.glob("*.html"))
KIB = 1024

_ROW = re.compile(
    r"^\| `(?P<file>[^`]+)` \| .+? \| (?P<version>\S+) \| .+ \| `(?P<sha>[0-9a-f]{64})` \|$", re.M
)
_SPECIFIER = re.compile(r"""(?:\bfrom\s*|\bimport\s*\(?\s*)["']([^"'\n]+)["']""")
_IMPORTED = re.compile(r"""^import \{([^}]+)\}\s+from "(\./[^"]+)";""", re.M)
_EXPORTED = re.compile(
    r"^export (?:async )?(?:const|function|class) (?:\{([^}]+)\}|(\w+))|^export \{([^}]+)\}", re.M
)
_LOADS_ELSEWHERE = re.compile(
    r"""(?:\bfrom|\bimport\b\s*\(?|\bfetch\s*\(|EventSource\s*\(|\.src\s*=|url\()\s*["'`]?\s*(?:https?:)?//""",
    re.I,
)


def url_of(path: Path) -> str:
    """Where the server puts a file: /static/… for our own, /static/vendor/… for the vendored ones."""
    if VENDOR in path.parents:
        return f"/static/vendor/{path.relative_to(VENDOR).as_posix()}"
    return f"/static/{path.relative_to(STATIC).as_posix()}"


def file_at(url: str) -> Path:
    if url.startswith("/static/vendor/"):
        return VENDOR / url.removeprefix("/static/vendor/")
    return STATIC / url.removeprefix("/static/")


def resolve(specifier: str, base: str) -> str:
    parts: list[str] = []
    for part in (PurePosixPath(base).parent / specifier).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return str(PurePosixPath(*parts))


class _Page(HTMLParser):
    """Collects the tags with their attributes, and text inside script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip() and self.tags and self.tags[-1][0] in ("script", "style"):
            self.inline.append(data)

    @property
    def links(self) -> Iterator[str]:
        for _, attributes in self.tags:
            for name in ("src", "href", "action", "srcset", "data"):
                if value := attributes.get(name):
                    yield value


def words(language: str) -> dict[str, str]:
    text = (STATIC / "lang" / f"{language}.js").read_text(encoding="utf-8")
    entries: dict[str, str] = json.loads(text.removeprefix("export default ").rstrip().removesuffix(";"))
    return entries


def test_vendored_files_are_the_listed_ones() -> None:
    rows = {m["file"]: m for m in _ROW.finditer((VENDOR / "THIRD_PARTY.md").read_text(encoding="utf-8"))}
    files = {path.name for path in VENDOR.iterdir()} - ABOUT_VENDOR
    assert set(rows) == files
    for name, row in rows.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == row["sha"], name
        assert row["version"] in name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_html_is_fit_for_a_strict_policy(page: Path) -> None:
    parsed = _Page(page.read_text(encoding="utf-8"))
    assert parsed.inline == []
    for tag, attributes in parsed.tags:
        assert tag != "style"
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
    for link in parsed.links:
        assert link.startswith("/static/"), link
        assert file_at(link).is_file(), link


@pytest.mark.parametrize("file", [*OWN_MODULES, *VENDORED_SCRIPTS, *STYLES], ids=url_of)
def test_nothing_is_loaded_from_elsewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert _LOADS_ELSEWHERE.search(text) is None
    assert "sourceMappingURL" not in text
    if file.suffix == ".css":
        assert "@import" not in text


@pytest.mark.parametrize("module", [*OWN_MODULES, *VENDORED_SCRIPTS], ids=url_of)
def test_every_import_resolves(module: Path) -> None:
    for specifier in _SPECIFIER.findall(module.read_text(encoding="utf-8")):
        assert specifier.startswith(("./", "../")), f"a bare import needs an import map: {specifier}"
        assert file_at(resolve(specifier, url_of(module))).is_file(), specifier


def _exports(module: Path) -> set[str]:
    names: set[str] = set()
    for groups in _EXPORTED.findall(module.read_text(encoding="utf-8")):
        for group in groups:
            names.update(name.strip() for name in group.split(",") if name.strip())
    return names


@pytest.mark.parametrize("module", OWN_MODULES, ids=url_of)
def test_imported_names_exist_and_are_used(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    body = _IMPORTED.sub("", text)
    for names, specifier in _IMPORTED.findall(text):
        target = file_at(resolve(specifier, url_of(module)))
        wanted = {name.strip() for name in names.split(",") if name.strip()}
        if STATIC in target.parents:
            assert wanted <= _exports(target), f"{specifier} lacks {wanted - _exports(target)}"
        unused = {name for name in wanted if not re.search(rf"\b{name}\b", body)}
        assert not unused, f"imported and not used: {unused}"


@pytest.mark.parametrize("module", OWN_MODULES, ids=url_of)
def test_data_never_becomes_markup_or_code(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert danger not in text


def test_both_languages_say_the_same_things() -> None:
    vi, en = words("vi"), words("en")
    assert vi.keys() == en.keys()
    for key, text in vi.items():
        assert text.strip(), key
        assert en[key].strip(), key
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", en[key])), key


def test_every_text_exists_and_every_word_is_used() -> None:
    code = "\n".join(p.read_text(encoding="utf-8") for p in OWN_MODULES if p.parent.name != "lang")
    keys = set(words("vi"))
    literal = set(re.findall(r'["`]([a-z_]+(?:\.[\w-]+)*)["`]', code))
    prefixes = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)*\.)\$\{", code))
    asked = set(re.findall(r"""\b(?:t|say)\(\s*["`]([\w.]+)["`]""", code))
    assert asked <= keys, f"no text for {asked - keys}"
    for prefix in prefixes:
        assert any(key.startswith(prefix) for key in keys), prefix
    unused = {key for key in keys - literal if not key.startswith(tuple(prefixes))}
    assert not unused, f"texts that nobody shows: {unused}"


def test_base_map_shows_the_archipelagos_as_vietnamese() -> None:
    [path] = VENDOR.glob("vn-base-*.json")
    assert path.stat().st_size < 120 * KIB
    assert f"/static/vendor/{path.name}" in (STATIC / "lib.js").read_text(encoding="utf-8")
    base = json.loads(path.read_text(encoding="utf-8"))
    assert len({feature["properties"]["name"] for feature in base["provinces"]["features"]}) == 34
    assert [a["name"]["vi"] for a in base["archipelagos"]] == [
        "Quần đảo Hoàng Sa (Việt Nam)",
        "Quần đảo Trường Sa (Việt Nam)",
    ]
    assert all("Việt Nam" in a["name"]["en"] and len(a["islands"]) > 5 for a in base["archipelagos"])


def test_base_map_draws_no_neighbour_in_the_archipelagos_and_names_none() -> None:
    [path] = VENDOR.glob("vn-base-*.json")
    neighbours = json.loads(path.read_text(encoding="utf-8"))["neighbours"]
    assert set(neighbours) == {"type", "coordinates"}
    for polygon in neighbours["coordinates"]:
        for ring in polygon:
            for longitude, latitude in ring:
                assert not (110.5 < longitude < 113.5 and 15.3 < latitude < 17.5)
                assert not (111.0 < longitude < 116.8 and 7.5 < latitude < 12.2)
