"""The commands that messages and pages give for what is not installed by itself."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

from segzoo import extras

ROOT = Path(__file__).parents[1]
_HINT = re.compile(r"""pip install\s+(?:-U\s+)?["'](?P<what>[^"'\s]+)["']""")


@pytest.fixture(autouse=True)
def forget_clone():
    extras._clone.cache_clear()
    yield
    extras._clone.cache_clear()


def installed_package(folder: Path, monkeypatch) -> None:
    """Pretend that the module lies in site-packages rather than beside its pyproject.toml."""
    monkeypatch.setattr(extras, "__file__", str(folder / "segzoo" / "extras.py"))


def direct_url(text: str | None, monkeypatch) -> None:
    class Distribution:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return text

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())


def clone(folder: Path) -> Path:
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[project]\nname = "keras-segzoo"\n')
    return folder


def test_in_its_own_folder_a_clone_is_a_dot(tmp_path, monkeypatch) -> None:
    installed_package(clone(tmp_path / "clone"), monkeypatch)
    monkeypatch.chdir(tmp_path / "clone")
    assert extras.install_command("geo") == 'pip install ".[geo]"'


def test_from_elsewhere_a_clone_is_named_by_its_path(tmp_path, monkeypatch) -> None:
    installed_package(clone(tmp_path / "clone"), monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert extras.install_command("geo", "coco") == f'pip install "{tmp_path / "clone"}[geo,coco]"'


def test_a_package_remembers_the_clone_that_it_was_installed_from(tmp_path, monkeypatch) -> None:
    installed_package(tmp_path / "site-packages", monkeypatch)
    place = clone(tmp_path / "a clone")
    direct_url('{"dir_info": {}, "url": "' + place.as_uri() + '"}', monkeypatch)
    assert extras.install_command("geo") == f'pip install "{place}[geo]"'


@pytest.mark.parametrize(
    "text", [None, "{", "[]", '{"url": 3}', '{"url": "file:///gone/clone"}', '{"url": "https://example.org/x.whl"}']
)
def test_else_the_package_of_the_index_is_named(tmp_path, monkeypatch, text) -> None:
    installed_package(tmp_path / "site-packages", monkeypatch)
    direct_url(text, monkeypatch)
    assert extras.install_command("geo") == 'pip install "keras-segzoo[geo]"'


def test_without_any_metadata_the_package_of_the_index_is_named(tmp_path, monkeypatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    installed_package(tmp_path / "site-packages", monkeypatch)
    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert extras.install_command("geo") == 'pip install "keras-segzoo[geo]"'


def test_no_message_or_page_sends_users_to_another_project() -> None:
    """`segzoo` on the package index is a genome tool."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert known["name"] == extras.DISTRIBUTION
    stray = []
    folders = ("segzoo", "docs", "configs", "notebooks", "benchmarks", "tests")
    files = [ROOT / "README.md", ROOT / "train.py", *(path for name in folders for path in (ROOT / name).rglob("*"))]
    for path in files:
        if path.suffix not in (".py", ".md", ".yaml", ".ipynb") or path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8")
        stray += [f"{path.name}: {found[0]}" for found in re.finditer(r"(?<![-\w.])segzoo\[[\w,-]+\]", text)]
        stray += [f"{path.name}: {found[0]}" for found in re.finditer(r"pip install [\"']?segzoo\b", text)]
        for found in _HINT.finditer(text):
            name, _, rest = found["what"].partition("[")
            if name in (".", extras.DISTRIBUTION) and "{" not in rest:
                wanted = [extra for extra in rest.rstrip("]").split(",") if extra]
                stray += [f"{path.name}: {extra}" for extra in wanted if extra not in known["optional-dependencies"]]
    assert not stray


def test_messages_use_the_function() -> None:
    """A command written out in the package would be wrong for a clone or for a package."""
    for path in (ROOT / "segzoo").rglob("*.py"):
        if path.name != "extras.py":
            assert not re.search(r"pip install [\"'](\.|keras-segzoo)?\[", path.read_text(encoding="utf-8")), path
