"""PyTorch image classifiers to TFLite models that XNNPACK runs in one piece.

The usual way: :func:`export` a module, collect ranges with :func:`activation_runner`, :func:`quantize`, then
:func:`pack_metadata`. Importing this package loads neither torch nor a converter: each name is imported from
its module when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evit_converters.tflite.activations import activation_runner
    from evit_converters.tflite.alone import Alone
    from evit_converters.tflite.classifier import ImageClassifier
    from evit_converters.tflite.delicate import delicate_operators, score_operators
    from evit_converters.tflite.exporter import export
    from evit_converters.tflite.metadata import ModelMetadata, Normalization, read_metadata
    from evit_converters.tflite.modes import Precision, QuantizableOperator, Quantization
    from evit_converters.tflite.pack import pack_metadata
    from evit_converters.tflite.partitioning import PartitionReport, partition_report, partitions
    from evit_converters.tflite.quantization import activation_names, quantizable_operators, quantize
    from evit_converters.tflite.tuning import faster_in_float

__all__ = [
    "Alone",
    "ImageClassifier",
    "ModelMetadata",
    "Normalization",
    "PartitionReport",
    "Precision",
    "QuantizableOperator",
    "Quantization",
    "activation_names",
    "activation_runner",
    "delicate_operators",
    "export",
    "faster_in_float",
    "pack_metadata",
    "partition_report",
    "partitions",
    "quantizable_operators",
    "quantize",
    "read_metadata",
    "score_operators",
]

_HOMES = {
    "Alone": "alone",
    "ImageClassifier": "classifier",
    "ModelMetadata": "metadata",
    "Normalization": "metadata",
    "PartitionReport": "partitioning",
    "Precision": "modes",
    "QuantizableOperator": "modes",
    "Quantization": "modes",
    "activation_names": "quantization",
    "activation_runner": "activations",
    "delicate_operators": "delicate",
    "export": "exporter",
    "faster_in_float": "tuning",
    "pack_metadata": "pack",
    "partition_report": "partitioning",
    "partitions": "partitioning",
    "quantizable_operators": "quantization",
    "quantize": "quantization",
    "read_metadata": "metadata",
    "score_operators": "delicate",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
