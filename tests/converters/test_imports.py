"""The package is light until a converter is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evit_converters import tflite

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "litert_torch", "ai_edge_quantizer", "ai_edge_litert", "numpy", "flatbuffers"}


@pytest.mark.parametrize(
    "names", ["", "Quantization", "ModelMetadata, Normalization"], ids=["none", "mode", "data"]
)
def test_light_names_load_nothing_heavy(names: str) -> None:
    code = (
        f"import sys, evit_converters.tflite\n{f'from evit_converters.tflite import {names}' if names else ''}\n"
    )
    code += f"print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "converters"), "PATH": ""},
    )
    assert done.stdout.strip() == "[]"


def test_public_names_are_there() -> None:
    assert sorted(tflite._HOMES) == sorted(tflite.__all__)
    for name in tflite.__all__:
        assert getattr(tflite, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tflite.nothing
