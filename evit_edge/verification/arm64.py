"""The same gates on Arm's kernels, emulated, and how far they are from this machine's."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evit_edge.errors import ArtefactError
from evit_edge.evaluation.prediction import Progress, answers
from evit_edge.evaluation.report import Share
from evit_edge.golden import read_golden
from evit_edge.manifest import golden_path, manifest_path, read_manifest
from evit_edge.runtime.arm64 import EmulatedInterpreter, emulated, find_root
from evit_edge.runtime.engines import Engine
from evit_edge.runtime.info import ModelInfo, Runner
from evit_edge.runtime.tflite import TfliteRunner
from evit_edge.runtime.tflite_file import read_tflite_file
from evit_edge.tensors import Float32Array, OutputKind, centred_logits
from evit_edge.verification.agreement import AGREEMENT, find_photos, share_gate
from evit_edge.verification.gates import Gate, Thresholds, VerificationReport
from evit_edge.verification.parity import Parity, golden_gates, measure_parity
from evit_edge.verification.request import VerifyRequest
from evit_edge.verification.sources import load_reference
from evit_edge.verification.structure import structure_gates


@dataclass(frozen=True)
class Difference:
    """How far two runtimes' answers to the same pictures are apart.

    Attributes:
        parity: Of the logits up to a constant; of the probabilities where those come in steps.
        scale: One step of the output; None where it is not quantized.
        max_steps: Largest difference, steps; None where the output is not quantized.
        mean_steps: Mean absolute difference, steps; likewise.
        max_probability: Largest difference of one class's probability; None where the scores are logits.
    """

    parity: Parity
    scale: float | None
    max_steps: int | None
    mean_steps: float | None
    max_probability: float | None

    def __str__(self) -> str:
        """The distance, for people."""
        told = []
        if self.max_steps is not None:
            told.append(f"at most {self.max_steps} steps of {self.scale:.4g} (mean {self.mean_steps:.2g})")
        elif self.max_probability is not None:
            told.append(f"probabilities within {self.max_probability:.1e}")
        return ", ".join(told)


def measure_difference(there: Float32Array, here: Float32Array, info: ModelInfo) -> Difference:
    """Compare scores (N, classes) of two runtimes."""
    scale, kind = info.output.scale, info.output_kind
    error = np.abs(there.astype(np.float64) - here)
    in_steps = scale is not None and kind is OutputKind.PROBABILITIES
    ours, theirs = (
        (scores.astype(np.float64) if in_steps else centred_logits(scores, kind)) for scores in (there, here)
    )
    return Difference(
        parity=measure_parity(ours, theirs),
        scale=scale,
        max_steps=None if scale is None else round(float(error.max()) / scale),
        mean_steps=None if scale is None else float(error.mean()) / scale,
        max_probability=float(error.max()) if kind is OutputKind.PROBABILITIES else None,
    )


def verify_on_arm64(request: VerifyRequest, progress: Progress | None = None) -> VerificationReport:
    """Replay golden vectors and photos in the root, and the same on this machine.

    Raises:
        ArtefactError: The artefact, its manifest or its golden vectors are missing or unreadable, or the runtime in
            the root fails on it.
        CheckpointError: The weights are missing, unreadable or of another model.
        DataError: A folder holds no photos, or more than 5 % of them cannot be read.
        DeviceError: The emulator or the root is missing; the message is what mends it.
        MissingExtraError: An engine is not installed.
    """
    artefact = request.artefact
    if not artefact.is_file():
        raise ArtefactError(f"no artefact at {artefact}; give a .tflite file")
    manifest = request.manifest or read_manifest(manifest_path(artefact))
    golden = request.golden or read_golden(golden_path(artefact))
    thresholds = request.thresholds or Thresholds.of(manifest.quantization)
    paths = find_photos(request)
    with _opened(request) as (there, here, interpreter):
        gates = structure_gates(read_tflite_file(artefact).preprocessing, there.info, manifest)
        parity, figures, scores = golden_gates(there, golden, thresholds)
        gates += parity
        if scores is not None:
            gates += _difference_gates("golden", scores, here.run(golden.images), there.info, thresholds, figures)
        reference = None
        if request.weights is not None:
            reference, source_gates = load_reference(request, manifest, golden)
            gates += source_gates
        gates += _photo_gates((there, here, reference), paths, thresholds, figures, progress)
        remark = f"XNNPACK of {_named(there.info)} on {interpreter.machine}: {interpreter.partitions()}."
    runtime = f"{_named(there.info)} on {interpreter.machine}, against {_named(here.info)} on {platform.machine()}"
    return VerificationReport(artefact, runtime, tuple(gates), figures, (remark,))


@contextmanager
def _opened(request: VerifyRequest) -> Iterator[tuple[Runner, Runner, EmulatedInterpreter]]:
    """The artefact in the root and on this machine; the process in the root ends with the block."""
    open_there = emulated(find_root(request.arm64_root))
    kept: list[EmulatedInterpreter] = []

    def opener(path: Path, threads: int) -> tuple[Engine, EmulatedInterpreter]:
        engine, interpreter = open_there(path, threads)
        kept.append(interpreter)
        return engine, interpreter

    rule = None if request.manifest is None else request.manifest.preprocessing
    here = TfliteRunner(request.artefact, threads=request.threads, preprocessing=rule)
    try:
        there = TfliteRunner(request.artefact, threads=request.threads, preprocessing=rule, opener=opener)
        yield there, here, kept[0]
    finally:
        for interpreter in kept:
            interpreter.close()


def _difference_gates(
    pictures: str,
    there: Float32Array,
    here: Float32Array,
    info: ModelInfo,
    thresholds: Thresholds,
    figures: dict[str, float],
) -> list[Gate]:
    """Nothing may be further from this machine's answers than an artefact of its kind may be from the model's."""
    name = f"{pictures} as on {platform.machine()}"
    if not np.isfinite(there).all():
        return [Gate.check(name, False, "NaN or infinity in the scores", "finite scores")]
    found = measure_difference(there, here, info)
    parity = found.parity
    figures[f"arm64_{pictures}_relative_error"] = parity.relative_error
    figures[f"arm64_{pictures}_sqnr_db"] = min(parity.sqnr_db, 200.0)  # JSON knows no infinity
    figures[f"arm64_{pictures}_top1_agreement"] = parity.top1_agreement
    for key in ("max_steps", "mean_steps", "max_probability"):
        if (value := getattr(found, key)) is not None:
            figures[f"arm64_{pictures}_{key}"] = float(value)
    if (limit := thresholds.max_relative_error) is not None:
        passed, measured, required = (
            parity.relative_error <= limit,
            f"{parity.relative_error:.1e}",
            f"at most {limit:.0e}",
        )
    else:
        least = thresholds.min_sqnr_db or 0.0
        passed, measured, required = parity.sqnr_db >= least, f"{parity.sqnr_db:.1f} dB", f"at least {least:g} dB"
    return [Gate.check(name, passed, ", ".join(filter(None, (measured, str(found)))), required)]


def _photo_gates(
    runners: tuple[Runner, Runner, Runner | None],
    paths: list[Path],
    thresholds: Thresholds,
    figures: dict[str, float],
    progress: Progress | None,
) -> list[Gate]:
    """Answers to photos: there against here, and against the weights where those were given."""
    there, here, reference = runners
    top1 = f"top-1 as on {platform.machine()}"
    if not paths:
        return [Gate.skip(top1, "no photos given (--data DIR)", f"at least {100 * thresholds.min_agreement:g} %")]
    asked = [runner for runner in runners if runner is not None]
    scores, used, bad = answers(asked, paths, lambda given: given, progress)
    gates = _difference_gates("photos", scores[0], scores[1], there.info, thresholds, figures)
    share = _share(scores[0], scores[1])
    gates.append(share_gate(top1, share, len(bad), thresholds))
    figures |= {"arm64_photos_top1_agreement": share.value, "photos": float(len(used))}
    if reference is not None:
        share = _share(scores[0], scores[2])
        gates.append(share_gate(AGREEMENT, share, len(bad), thresholds))
        figures["photo_top1_agreement"] = share.value
    return gates


def _share(ours: Float32Array, theirs: Float32Array) -> Share:
    same: npt.NDArray[np.bool_] = np.equal(ours.argmax(axis=1), theirs.argmax(axis=1))
    return Share.of(same)


def _named(info: ModelInfo) -> str:
    return f"{info.runtime} {info.runtime_version}"
