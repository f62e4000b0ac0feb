"""The files that a repository's host and its contributors' tools read: their form, and that what they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qrnn.system.version import __version__

ROOT = Path(__file__).parents[1]
YAML = [*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_is_yaml(path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    assert isinstance(yaml.safe_load(path.read_text()), dict)


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "docs/licences.md"])
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_hooks_call_what_is_there() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    tools = re.findall(r"entry: python (\S+)", text)
    assert tools
    assert all((ROOT / tool).exists() for tool in tools)
    assert re.search("^targets/runtime/", "targets/runtime/qrnn_contract.h")


def test_every_dependency_of_the_core_has_a_licence_on_the_page() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs" / "licences.md").read_text()
    needed = [*project["dependencies"], *project["optional-dependencies"]["cli"]]
    names = {re.split(r"[<>=\[]", need)[0] for need in needed} - {"qrnn"}
    assert [name for name in names if not re.search(rf"\| {name} \| [^|]+ \| (?!-|not declared)", page)] == []


def test_everything_names_the_version_of_the_package() -> None:
    """The newest release of the changelog, with its date; the citation; and the wheels that pages name."""
    newest = re.search(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {newest[1]}\ndate-released: {newest[2]}\n" in citation
    named = {
        version
        for page in (ROOT / "docs").rglob("*.md")
        for version in re.findall(r"qrnn-([\d.]+)-py3", page.read_text())
    }
    assert named == {__version__}


def test_the_versions_of_python_are_said_alike() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tried = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    first, last = tried[0], tried[-1]
    assert project["requires-python"] == f">={first},<3.{int(last[2:]) + 1}"
    assert f"Python {first} to {last}" in (ROOT / "docs" / "index.md").read_text()
    assert str(tried).replace("'", '"') in (ROOT / ".github" / "workflows" / "checks.yml").read_text()
