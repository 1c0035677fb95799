"""Writing an ``.mlpackage``: whole or not at all, and the same bytes for the same program."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from pathlib import Path

from evit_converters.coreml.program import Program
from evit_converters.errors import ModelFileError
from evit_converters.replacement import put

SUFFIX = ".mlpackage"
MODEL_FILE = "com.apple.CoreML/model.mlmodel"
WEIGHTS_FOLDER = "com.apple.CoreML/weights"
# The format wants identifiers and gives them no meaning: of version 5, made from the items' paths.
MODEL_ID = str(uuid.uuid5(uuid.NAMESPACE_URL, MODEL_FILE))
WEIGHTS_ID = str(uuid.uuid5(uuid.NAMESPACE_URL, WEIGHTS_FOLDER))


def save(program: Program, path: Path) -> None:
    """Write a package.

    Args:
        program: What to write.
        path: A name that ends in ``.mlpackage``. A package that stands there is replaced once the new one is
            complete.

    Raises:
        ModelFileError: The name is another, something else stands there, or the folder cannot be written.
    """
    if path.suffix != SUFFIX:
        raise ModelFileError(f"{path} given; the name of a Core ML package ends in {SUFFIX}")
    if path.exists() and not (path / "Manifest.json").is_file():
        raise ModelFileError(f"{path} is there and is no Core ML package; move it away or choose another name")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            put(_write(program, Path(folder) / path.name), path)
    except OSError as exc:
        raise ModelFileError(f"cannot write {path}: {exc.strerror or exc}") from exc


def _write(program: Program, folder: Path) -> Path:
    data = folder / "Data"
    (data / WEIGHTS_FOLDER).mkdir(parents=True)
    specification = program.model.get_spec()
    (data / MODEL_FILE).write_bytes(specification.SerializeToString(deterministic=True))
    # There is none where all weights are so small that they stand in the specification.
    for weights in sorted(Path(program.model.weights_dir).iterdir()):
        shutil.copyfile(weights, data / WEIGHTS_FOLDER / weights.name)
    (folder / "Manifest.json").write_text(json.dumps(_manifest(), indent=4) + "\n")
    return folder


def _manifest() -> dict[str, object]:
    def item(name: str, path: str, description: str) -> dict[str, str]:
        return {"author": "com.apple.CoreML", "description": description, "name": name, "path": path}

    return {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            MODEL_ID: item("model.mlmodel", MODEL_FILE, "CoreML Model Specification"),
            WEIGHTS_ID: item("weights", WEIGHTS_FOLDER, "CoreML Model Weights"),
        },
        "rootModelIdentifier": MODEL_ID,
    }
