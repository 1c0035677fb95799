"""coremltools' generated protobuf classes, without the rest of coremltools.

``import coremltools`` pulls in torch, scikit-learn and more, some seconds of it, and writes to stderr. Reading a
file needs only the classes in its ``proto`` folder, which stand on protobuf alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

from evit_edge.errors import MissingExtraError, require, require_installed

_ALIAS = "_evit_edge_coremltools_proto"


@cache
def message_classes() -> Any:
    """The module ``coremltools.proto.Model_pb2``, which has the class ``Model``.

    Raises:
        MissingExtraError: coremltools or protobuf is not installed.
    """
    require_installed("coremltools", extra="convert")
    require("google.protobuf", extra="convert")
    if "coremltools" in sys.modules:
        return importlib.import_module("coremltools.proto.Model_pb2")
    package = importlib.util.find_spec("coremltools")
    for place in (package.submodule_search_locations or []) if package is not None else []:
        folder = Path(place) / "proto"
        if (folder / "Model_pb2.py").is_file():
            return _load(folder)
    raise MissingExtraError("coremltools lacks its folder proto: pip install --force-reinstall coremltools")


def decode_error() -> type[Exception]:
    """What protobuf raises on bytes that are no message."""
    return importlib.import_module("google.protobuf.message").DecodeError  # type: ignore[no-any-return]


def _load(folder: Path) -> Any:
    """Load the folder as a package of its own; its modules import each other relatively.

    protobuf's pool accepts the same files a second time when coremltools itself is imported later.
    """
    spec = importlib.util.spec_from_file_location(
        _ALIAS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise MissingExtraError(f"{folder} cannot be imported: pip install --force-reinstall coremltools")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_ALIAS] = module
    spec.loader.exec_module(module)
    return importlib.import_module(f"{_ALIAS}.Model_pb2")
