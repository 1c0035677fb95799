"""Figures that others published. None was measured here; reports say so above the column."""

from __future__ import annotations

from evit_edge.benchmark.report import Published

HEADING = "published, not measured here"

_TFLITE = "tensorflow.org/lite/performance/measurement (Android 10, big cores)"
_DELEGATES = "github.com/freedomtan/glDelegateBenchmark"
_ZOO = "coreml-model-zoo (iOS 13.5)"
_FORMER = "EfficientFormer, GitHub issue 9 (iOS 15.5)"
_A13_PRO, _A13 = "iPhone 11 Pro (A13)", "iPhone 11 (A13)"
_SD845, _SD855 = "Pixel 3 (Snapdragon 845)", "Pixel 4 (Snapdragon 855)"
_V1_FLOAT, _V1_QUANT = "MobileNetV1 1.0 224, float", "MobileNetV1 1.0 224, quantized"
_CPU4 = "TFLite, CPU, 4 threads"

PUBLISHED = tuple(
    Published(device, model, runtime, milliseconds / 1000, source)
    for device, model, runtime, milliseconds, source in (
        (_A13_PRO, "MobileNetV2", "Core ML, CPU", 17.0, _ZOO),
        (_A13_PRO, "MobileNetV2", "Core ML, GPU", 14.0, _ZOO),
        (_A13_PRO, "MobileNetV2", "Core ML, Neural Engine", 4.0, _ZOO),
        (_A13_PRO, "ResNet50", "Core ML, CPU", 70.0, _ZOO),
        (_A13_PRO, "ResNet50", "Core ML, GPU", 50.0, _ZOO),
        (_A13_PRO, "ResNet50", "Core ML, Neural Engine", 10.0, _ZOO),
        (_A13, "MobileNetV2", "Core ML", 1.4, _FORMER),
        (_A13_PRO, _V1_FLOAT, "TFLite, CPU, 1 thread", 26.54, _DELEGATES),
        (_A13_PRO, _V1_FLOAT, "TFLite, GPU delegate", 10.91, _DELEGATES),
        (_A13_PRO, _V1_FLOAT, "TFLite, Core ML delegate", 2.03, _DELEGATES),
        (_SD845, _V1_FLOAT, _CPU4, 23.9, _TFLITE),
        (_SD845, _V1_FLOAT, "TFLite, GPU delegate", 6.45, _TFLITE),
        (_SD845, _V1_QUANT, _CPU4, 13.4, _TFLITE),
        (_SD855, _V1_FLOAT, _CPU4, 14.0, _TFLITE),
        (_SD855, _V1_FLOAT, "TFLite, GPU delegate", 9.0, _TFLITE),
        (_SD855, _V1_QUANT, _CPU4, 5.0, _TFLITE),
    )
)
