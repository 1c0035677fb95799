"""The package is light until a converter is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from evit_converters import coreml, tflite

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "litert_torch", "ai_edge_quantizer", "ai_edge_litert", "numpy", "flatbuffers", "coremltools"}


@pytest.mark.parametrize(
    ("package", "names"),
    [
        ("tflite", ""),
        ("tflite", "Quantization"),
        ("tflite", "ModelMetadata, Normalization"),
        ("coreml", ""),
        ("coreml", "Quantization, DeploymentTarget, lowest_target, check_target"),
        ("coreml", "Interface, OutputKind, Program"),
    ],
)
def test_light_names_load_nothing_heavy(package: str, names: str) -> None:
    code = f"import sys, evit_converters.{package}\n"
    if names:
        code += f"from evit_converters.{package} import {names}\n"
    code += f"print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "converters"), "PATH": ""},
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", [tflite, coreml], ids=["tflite", "coreml"])
def test_public_names_are_there(package: ModuleType) -> None:
    assert sorted(package._HOMES) == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing
