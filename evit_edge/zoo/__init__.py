"""The models that ship inside the package, each with its card and calibration caches.

Every file is compared with ``SHA256SUMS`` before its path is given out, so that a damaged or exchanged one is
refused by name instead of answering something else.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from evit_edge import __version__
from evit_edge.errors import ArtefactError
from evit_edge.files import sha256_of

EVERYDAY = "everyday"
"""EfficientViT-M0, 104 classes of everyday things, animals and flowers: weights, for torch."""

EVERYDAY_INT8 = "everyday-int8"
"""The same as an int8 ``.tflite``, which the base installation runs."""

_HERE = Path(__file__).parent
_SUMS = "SHA256SUMS"


def checkpoint_path(name: str) -> Path:
    """The shipped model's weights.

    Raises:
        ArtefactError: The file is missing, or is not the one that was shipped.
    """
    return _verified(f"{name}/{name}.safetensors")


def calibration_path(name: str, target: str) -> Path:
    """The shipped model's calibration cache for a file format, such as ``tflite``: its graph's tensors by name.

    Raises:
        ArtefactError: The file is missing, or is not the one that was shipped.
    """
    return _verified(f"{name}/{name}.{target}.calibration.json")


def golden_photos() -> tuple[Path, ...]:
    """The photos that golden vectors are made of, in a fixed order.

    Raises:
        ArtefactError: One is missing, or is not the one that was shipped.
    """
    return tuple(_verified(name) for name in sorted(stated_sums()) if name.startswith("golden/"))


def artefact_path(source: str | Path) -> str | Path:
    """Put the path of the shipped int8 file in place of its name.

    Args:
        source: What the user named.

    Returns:
        The file for ``everyday-int8``; anything else as it was given.

    Raises:
        ArtefactError: It, or its manifest or golden vectors, is missing or not what was shipped.
    """
    if str(source) != EVERYDAY_INT8:
        return source
    file = f"{EVERYDAY}/{EVERYDAY_INT8}.tflite"
    return [_verified(file + suffix) for suffix in (".json", ".golden.npz", "")][-1]


def is_shipped_checkpoint(sha256: str) -> bool:
    """Whether weights of this SHA-256, in hex, ship with this version and are there."""
    file = f"{EVERYDAY}/{EVERYDAY}.safetensors"
    return stated_sums().get(file) == sha256 and (_HERE / file).is_file()


def is_shipped(source: str | Path) -> bool:
    """Whether a name is that of a model that ships, and the file is the one that did."""
    named = {EVERYDAY: checkpoint_path(EVERYDAY), EVERYDAY_INT8: _HERE / EVERYDAY / f"{EVERYDAY_INT8}.tflite"}
    file, home = named.get(str(source), Path(source)).resolve(), _HERE.resolve()
    if not file.is_file() or not file.is_relative_to(home):
        return False
    return stated_sums().get(file.relative_to(home).as_posix()) == _sha256(file)


@cache
def _sha256(file: Path) -> str:
    return sha256_of(file)


def stated_sums() -> dict[str, str]:
    """Shipped file, relative to this folder, to its SHA-256 in hex.

    Raises:
        ArtefactError: The list is missing or damaged.
    """
    path = _HERE / _SUMS
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as exc:
        raise ArtefactError(f"{path} is missing or damaged; {_mend()}") from exc


def _verified(name: str) -> Path:
    path, stated = _HERE / name, stated_sums().get(name)
    if not path.is_file():
        raise ArtefactError(f"{path} is missing, which ships with evit-edge {__version__}; {_mend()}")
    found = sha256_of(path)
    if found != stated:
        raise ArtefactError(
            f"{path} is not the file that ships with evit-edge {__version__}: its SHA-256 is {found[:16]}..., "
            f"{(stated or 'none')[:16]}... is stated; {_mend()}"
        )
    return path


def _mend() -> str:
    return "pip install --force-reinstall evit-edge brings it back; your own model is given by its path"
