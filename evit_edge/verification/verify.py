"""One function that the conversion and the command line both call."""

from __future__ import annotations

from evit_edge.errors import ArtefactError
from evit_edge.evaluation.prediction import Progress
from evit_edge.golden import read_golden
from evit_edge.manifest import Manifest, golden_path, manifest_path, read_manifest
from evit_edge.publishing import finish
from evit_edge.runtime.checks.door import check_model
from evit_edge.runtime.info import Runner
from evit_edge.runtime.tflite import TfliteRunner
from evit_edge.runtime.tflite_file import read_tflite_file
from evit_edge.verification.agreement import agreement_gate, find_photos
from evit_edge.verification.gates import Gate, Thresholds, VerificationReport
from evit_edge.verification.parity import golden_gates
from evit_edge.verification.request import Architecture, VerifyRequest
from evit_edge.verification.sources import load_reference
from evit_edge.verification.structure import checker_gate, partitions_gate, structure_gates


def verify(request: VerifyRequest, progress: Progress | None = None) -> VerificationReport:
    """Measure every gate.

    Raises:
        ArtefactError: The artefact, its manifest or its golden vectors are missing or unreadable.
        CheckpointError: The weights are missing, unreadable or of another model.
        DataError: A folder holds no photos, or more than 5 % of them cannot be read.
        MissingExtraError: An engine is not installed.
    """
    finish(request.artefact.parent)
    if request.artefact.exists():
        check_model(request.artefact)
    if request.artefact.suffix == ".mlpackage":
        from evit_edge.verification.coreml.verifying import verify_package

        return verify_package(request, progress)
    if request.arch is Architecture.ARM64:
        from evit_edge.verification.arm64 import verify_on_arm64

        return verify_on_arm64(request, progress)
    return _verify_file(request, progress)


def _verify_file(request: VerifyRequest, progress: Progress | None) -> VerificationReport:
    if not request.artefact.is_file():
        raise ArtefactError(f"no artefact at {request.artefact}; give a .tflite or .onnx file or a .mlpackage")
    manifest = request.manifest or read_manifest(manifest_path(request.artefact))
    runner, gates = _opened(request, manifest)
    golden = request.golden or read_golden(golden_path(request.artefact))
    thresholds = request.thresholds or Thresholds.of(manifest.quantization)
    paths = find_photos(request)
    parity, figures = golden_gates(runner, golden, thresholds)
    gates += parity
    reference = None
    if request.weights is not None:
        reference, source_gates = load_reference(request, manifest, golden)
        gates += source_gates
    agreement, more = agreement_gate(runner, reference, paths, thresholds, progress)
    runtime = f"{runner.info.runtime} {runner.info.runtime_version}"
    return VerificationReport(request.artefact, runtime, (*gates, agreement), figures | more)


def _opened(request: VerifyRequest, manifest: Manifest) -> tuple[Runner, list[Gate]]:
    """The artefact in its engine, and the gates on the file itself."""
    artefact, rule = request.artefact, manifest.preprocessing
    if artefact.suffix == ".onnx":
        from evit_edge.runtime.onnx import OnnxRunner

        onnx = OnnxRunner(artefact, threads=request.threads, preprocessing=rule)
        return onnx, [*structure_gates(onnx.carried, onnx.info, manifest), checker_gate(artefact)]
    carried = read_tflite_file(artefact).preprocessing
    tflite = TfliteRunner(artefact, threads=request.threads, preprocessing=rule)
    gates = structure_gates(carried, tflite.info, manifest)
    return tflite, [*gates, partitions_gate(artefact, manifest.artefact.partitions)]
