"""Reading a ``.mlpackage`` whole: the manifest, the model's message, the weights. No Apple software is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evit_edge.errors import ArtefactError
from evit_edge.runtime.coreml import interface
from evit_edge.runtime.coreml.bundle import Bundle, open_bundle
from evit_edge.runtime.coreml.interface import ImageInput, Output
from evit_edge.runtime.coreml.parsing import parse_function
from evit_edge.runtime.coreml.program import OPSETS, Function
from evit_edge.runtime.coreml.protobuf import decode_error, message_classes

MAIN = "main"
_LOWEST = {"CoreML5": 6, "CoreML6": 7, "CoreML7": 8, "CoreML8": 9}


@dataclass(frozen=True)
class Package:
    """A ``.mlpackage`` that holds an ML Program.

    Attributes:
        path: The folder.
        specification_version: 6 for iOS 15 to 9 for iOS 18.
        function: The program's main function, its weights included.
        image: The image input, where there is one.
        outputs: What the model answers with.
        labels: Names of the classes, of a classifier.
        predicted_probabilities: Name of the output with one score per class, of a classifier.
        metadata: ``description``, ``version``, ``author``, ``license`` as the file states them.
        user_defined: Metadata under keys of the author's choice.
        weight_files: Names of the weight files inside the package.
    """

    path: Path
    specification_version: int
    function: Function = field(repr=False)
    image: ImageInput | None
    outputs: tuple[Output, ...]
    labels: tuple[str, ...] | None = field(repr=False)
    predicted_probabilities: str | None
    metadata: Mapping[str, str]
    user_defined: Mapping[str, str] = field(repr=False)
    weight_files: tuple[str, ...] = ()

    @property
    def opset(self) -> str:
        """``iOS15`` to ``iOS18``."""
        return OPSETS[self.function.opset]


def read_package(path: str | Path) -> Package:
    """Read a package.

    Args:
        path: The folder ``NAME.mlpackage``.

    Raises:
        ArtefactError: It is missing, truncated, damaged, or holds no ML Program. The message names the package and
            what is wrong.
        MissingExtraError: coremltools, whose message classes are needed, is not installed.
    """
    folder = Path(path)
    message_classes()
    try:
        bundle = open_bundle(folder)
        return _package(bundle, _model(bundle))
    except ArtefactError as exc:
        raise ArtefactError(f"{folder} is no usable .mlpackage: {exc}") from exc


def _model(bundle: Bundle) -> Any:
    model = message_classes().Model()
    name = bundle.model.name
    try:
        model.ParseFromString(bundle.model.read_bytes())
    except OSError as exc:
        raise ArtefactError(f"{name} cannot be read: {exc.strerror}") from exc
    except decode_error() as exc:
        raise ArtefactError(f"{name} is damaged ({exc})") from exc
    kind = model.WhichOneof("Type")
    if kind != "mlProgram":
        raise ArtefactError(f"{name} holds a {kind or 'model of no known kind'}; an ML Program is accepted")
    return model


def _package(bundle: Bundle, model: Any) -> Package:
    description = model.description
    name = description.defaultFunctionName or MAIN
    if name not in model.mlProgram.functions:
        raise ArtefactError(f"its program has no function {name!r}")
    function = parse_function(name, model.mlProgram.functions[name], bundle.open_blobs)
    _check_version(model.specificationVersion, function)
    described = _described(description, name)
    metadata = description.metadata
    return Package(
        path=bundle.path,
        specification_version=model.specificationVersion,
        function=function,
        image=interface.image_input(described, function),
        outputs=interface.outputs(described),
        labels=interface.class_labels(function),
        predicted_probabilities=described.predictedProbabilitiesName or None,
        metadata={
            "description": metadata.shortDescription,
            "version": metadata.versionString,
            "author": metadata.author,
            "license": metadata.license,
        },
        user_defined=dict(metadata.userDefined),
        weight_files=tuple(file.name for file in bundle.blobs.values()),
    )


def _described(description: Any, name: str) -> Any:
    """Inputs and outputs; a file with several functions has them per function (iOS 18)."""
    return next((entry for entry in description.functions if entry.name == name), description)


def _check_version(version: int, function: Function) -> None:
    lowest = _LOWEST[function.opset]
    if version < lowest:
        raise ArtefactError(
            f"it states specification version {version} and uses operation set {OPSETS[function.opset]}, "
            f"which needs {lowest}"
        )
