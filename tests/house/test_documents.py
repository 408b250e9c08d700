"""What is written about the server is so: links lead somewhere, settings and codes are those of the code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from app import errors
from app.policy.cedar import check
from app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *(ROOT / name / "README.md" for name in ("examples", "bench", "keys"))])
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """As GitHub makes them: lower case, punctuation gone, spaces as hyphens."""
    headings = HEADING.findall(re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in LINK.findall(document.read_text()):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_setting_is_documented_with_its_default_and_no_other() -> None:
    rows = dict(re.findall(r"^\| `DEPUTY_([A-Z_]+)` \| (.+?) \|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE))
    assert set(rows) == {name.upper() for name in Settings.model_fields}
    for name, setting in Settings.model_fields.items():
        default = setting.default
        if isinstance(default, bool):
            assert f"`{str(default).lower()}`" in rows[name.upper()], name
        elif isinstance(default, int | float):
            assert f"`{default:g}`" in rows[name.upper()].replace("2592000", "2.592e+06"), name


def test_every_setting_is_read() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "app").rglob("*.py") if path.name != "settings.py")
    code += (ROOT / "app" / "settings.py").read_text().partition("def _safe")[2]
    unread = [name for name in Settings.model_fields if not re.search(rf"(settings|self)\.{name}\b", code)]
    assert unread == []


def test_every_code_is_explained() -> None:
    headings = anchors(ROOT / "docs" / "errors.md")
    text = (ROOT / "docs" / "errors.md").read_text()
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.OAuthError)]
    assert len(kinds) > 15
    for kind in kinds:
        assert f"`{kind.error}`" in text, kind
        if kind.error in {"invalid_request", "invalid_client", "invalid_grant", "invalid_scope", "invalid_target", "invalid_token"}:
            assert kind.error in headings


def test_every_threat_names_code_that_is_there() -> None:
    text = (ROOT / "docs" / "threats.md").read_text()
    named = re.findall(r"`((?:app|templates|examples)/[^`]*)`", text)
    assert len(named) > 50
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_newest_change_is_of_this_version() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    released = re.findall(r"^## \[?([^\s\]]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] in {"Unreleased", version[1]}


def test_nothing_private_is_kept_in_the_repository() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {name for name in files if name.startswith("keys/")} == {"keys/.gitignore", "keys/README.md"}
    assert not [name for name in files if name.startswith("var/") or name.endswith((".key", ".pem", ".jwk", ".sqlite", ".env"))]


def test_every_policy_in_the_documents_is_one_that_may_be_saved() -> None:
    pages = {page.name: page.read_text() for page in (ROOT / "docs").glob("*.md")}
    examples = [text for page in pages.values() for text in re.findall(r"```cedar\n(.*?)```", page, re.DOTALL)]
    assert examples
    for text in examples:
        check("example", text)
