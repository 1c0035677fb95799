"""The one tree of errors that this package raises.

ConverterError
├── ModuleError          the torch module or its example input cannot be converted (NaN weights, wrong type)
├── ExportError          litert-torch could not turn the module into a flatbuffer
├── QuantizationError    ranges that do not fit the graph, or ai-edge-quantizer refused it
└── ModelFileError       bytes that are no TFLite model, or one without what was asked for

Exceptions of torch, litert-torch, ai-edge-quantizer and LiteRT are mapped where they arise, with ``from``.
"""

from __future__ import annotations


class ConverterError(Exception):
    """Base of all errors that this package raises on purpose."""


class ModuleError(ConverterError):
    """The module or its example input cannot be converted as given."""


class ExportError(ConverterError):
    """The exporter could not turn the module into a flatbuffer."""


class QuantizationError(ConverterError):
    """The model could not be quantized with what was given."""


class ModelFileError(ConverterError):
    """Bytes that are no TFLite model, or a model that lacks what was asked for."""
