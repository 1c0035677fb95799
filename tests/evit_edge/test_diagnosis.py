import re
import tomllib
from pathlib import Path

from evit_edge.diagnosis import EXTRAS, diagnose

ROOT = Path(__file__).resolve().parents[2]


def test_the_extras_are_those_of_the_project():
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {extra: [re.match(r"[\w-]+", entry).group() for entry in stated[extra]] for extra in EXTRAS}
    assert {extra: list(wanted) for extra, wanted in EXTRAS.items()} == names
    assert set(stated) - set(EXTRAS) == {"dev"}


def test_what_is_missing_comes_with_its_cure():
    found = diagnose()
    extras = {extra.name: extra for extra in found.extras}
    for name, extra in extras.items():
        assert extra.install == f"pip install 'evit-edge[{name}]'"
    for capability in found.capabilities:
        assert capability.detail
        assert capability.works or "install" in capability.detail or "Linux" in capability.detail
