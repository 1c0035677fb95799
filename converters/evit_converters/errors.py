"""The one tree of errors that this package raises.

ConverterError
├── ModuleError          the torch module or its example input cannot be converted (NaN weights, wrong type)
├── InterfaceError       a Core ML package cannot say this of itself (normalisation, labels)
├── TargetError          the deployment target cannot run what was asked for
├── ExportError          litert-torch or coremltools could not convert the module
├── QuantizationError    ranges that do not fit the graph, or the quantizer refused it
└── ModelFileError       bytes that are no model, one without what was asked for, or a package not written

Exceptions of torch, litert-torch, ai-edge-quantizer, LiteRT and coremltools are mapped where they arise, with
``from``.
"""

from __future__ import annotations


class ConverterError(Exception):
    """Base of all errors that this package raises on purpose."""


class ModuleError(ConverterError):
    """The module or its example input cannot be converted as given."""


class InterfaceError(ConverterError):
    """What a Core ML package is to say of itself is impossible."""


class TargetError(ConverterError):
    """The deployment target cannot run what was asked for."""


class ExportError(ConverterError):
    """The exporter could not convert the module."""


class QuantizationError(ConverterError):
    """The model could not be quantized with what was given."""


class ModelFileError(ConverterError):
    """Bytes that are no model, a model that lacks what was asked for, or a package that cannot be written."""
