"""The wheel and sdist: what is in them, their bill of materials, and a clean installation on every Python."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sbom

ROOT = Path(__file__).resolve().parents[1]
CODE = {".py", ".sh", ".c", ".swift", ".typed", ".md", ".json", ".css", ".js", ".txt", ".html"}

# Outside the checkout, so that what is imported is what was installed.
CLASSIFY = ["-m", "evit_edge.cli.main", "classify", "everyday-int8", "--json"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build(folder)
    return folder


def build(folder: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def archive(wheel: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(wheel) as opened:
        yield opened


def test_built_twice_is_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    build(tmp_path)
    assert next(tmp_path.glob("*.whl")).read_bytes() == wheel.read_bytes()


def test_the_wheel_carries_licences_and_models(archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    licences = {name.partition("licenses/")[2] for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "THIRD-PARTY.md", "app/evit_app/assets/fonts/OFL.txt"}
    assert {name.partition("/")[0] for name in names if "dist-info" not in name} == {
        "evit_edge",
        "evit_converters",
        "evit_calibration",
        "evit_app",
    }
    sums = archive.read("evit_edge/zoo/SHA256SUMS").decode().splitlines()
    for digest, name in (line.split("  ") for line in sums):
        assert hashlib.sha256(archive.read(f"evit_edge/zoo/{name}")).hexdigest() == digest


def test_whatever_is_no_code_is_in_the_bill_with_its_licence(archive: zipfile.ZipFile) -> None:
    inside = [name for name in archive.namelist() if ".dist-info/" not in name and not name.endswith("SHA256SUMS")]
    assert {name for name in inside if Path(name).suffix not in CODE} == set(sbom.OWN_PARTS)
    told = (ROOT / "THIRD-PARTY.md").read_text(encoding="utf-8")
    foreign = [name for name, (_, licence) in sbom.OWN_PARTS.items() if licence != "MIT"]
    assert all(name in told for name in foreign)


def test_the_bill_of_materials(wheel: Path, tmp_path: Path) -> None:
    sbom.main(wheel, tmp_path / "sbom.json")  # checks it against CycloneDX's schema
    bill = json.loads((tmp_path / "sbom.json").read_text(encoding="utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    itself = bill["metadata"]["component"]
    assert itself["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}]
    found = {component["name"]: component for component in bill["components"]}
    assert set(sbom.OWN_PARTS) <= found.keys()
    assert found["numpy"]["scope"] == "required"
    assert found["numpy"]["purl"] == f"pkg:pypi/numpy@{found['numpy']['version']}"
    assert found["torch"]["scope"] == "optional"
    assert {p["value"] for p in found["torch"]["properties"]} == {"convert", "train"}
    assert "pytest" not in found
    unlicensed = [name for name, component in found.items() if not component.get("licenses")]
    assert unlicensed == []
    assert len(bill["dependencies"]) == len(found) + 1


def test_the_sdist_builds_the_same_packages(built: Path, archive: zipfile.ZipFile, tmp_path: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as packed:
        packed.extractall(tmp_path, filter="data")
    source = next(tmp_path.iterdir())
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=300)
    with zipfile.ZipFile(next((tmp_path / "dist").glob("*.whl"))) as again:
        assert {info.filename: info.CRC for info in again.infolist()} == {
            info.filename: info.CRC for info in archive.infolist()
        }


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_a_clean_installation_classifies(wheel: Path, tmp_path: Path, version: str, coffee_jpg: Path) -> None:
    found = subprocess.run(
        ["sh", str(ROOT / "scripts" / "find_python.sh"), version], capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip(f"no Python {version} on this machine")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*command: object) -> str:
        told = subprocess.run(
            [str(part) for part in command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert told.returncode == 0, told.stderr[-2000:]
        return told.stdout

    run(found.stdout.strip(), "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    assert run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip() == version
    document = json.loads(run(python, *CLASSIFY, coffee_jpg))
    predictions = document["images"][0]["predictions"]
    assert len(predictions) == 5
    assert sum(p["probability"] for p in predictions) <= 1.0001
    run(python, "-m", "pip", "check")
    assert "passed" in run(python, "-m", "evit_edge.cli.main", "verify", "everyday-int8", "--json")
    assert "yes" in run(tmp_path / "venv" / "bin" / "evit-edge", "doctor")
