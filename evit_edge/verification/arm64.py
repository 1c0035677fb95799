"""The same gates on Arm's kernels, emulated, and how far their answers are from this machine's."""

from __future__ import annotations

import platform
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evit_edge.errors import ArtefactError
from evit_edge.evaluation.prediction import Progress, answers
from evit_edge.evaluation.report import Share
from evit_edge.golden import Golden, read_golden
from evit_edge.manifest import Manifest, golden_path, manifest_path, read_manifest
from evit_edge.runtime.arm64 import Arm64Root, EmulatedInterpreter, find_root
from evit_edge.runtime.engines import Engine
from evit_edge.runtime.info import ModelInfo, Runner
from evit_edge.runtime.tflite import TfliteRunner
from evit_edge.runtime.tflite_file import read_tflite_file
from evit_edge.tensors import Float32Array, OutputKind, centred_logits
from evit_edge.verification.agreement import AGREEMENT, find_photos, share_gate
from evit_edge.verification.gates import Gate, Thresholds, VerificationReport
from evit_edge.verification.parity import Parity, measure_parity, replay_golden
from evit_edge.verification.request import VerifyRequest
from evit_edge.verification.sources import load_reference
from evit_edge.verification.structure import division_gate, structure_gates


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

    def figures(self, prefix: str) -> dict[str, float]:
        """The distance by name, for the report's JSON."""
        named = {
            "relative_error": self.parity.relative_error,
            "sqnr_db": min(self.parity.sqnr_db, 200.0),  # JSON knows no infinity
            "top1_agreement": self.parity.top1_agreement,
            "max_steps": self.max_steps,
            "mean_steps": self.mean_steps,
            "max_probability": self.max_probability,
        }
        return {f"{prefix}_{name}": float(value) for name, value in named.items() if value is not None}


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


@dataclass(frozen=True)
class _Subject:
    """An artefact, what it is held to, and its answers on this machine."""

    artefact: Path
    manifest: Manifest
    golden: Golden
    thresholds: Thresholds
    threads: int
    here: TfliteRunner


@dataclass
class _Found:
    """Gates and figures of one runtime in the root, as they come."""

    runner: TfliteRunner
    interpreter: EmulatedInterpreter
    gates: list[Gate]
    figures: dict[str, float]

    @property
    def name(self) -> str:
        """The runtime's."""
        return self.runner.info.runtime

    @property
    def remark(self) -> str:
        """Which of the operators the kernels that were compared are XNNPACK's."""
        return f"{_named(self.runner.info)} on {self.interpreter.machine}: {self.interpreter.partitions()}."


def verify_on_arm64(request: VerifyRequest, progress: Progress | None = None) -> VerificationReport:
    """Replay golden vectors and photos in the root, and the same on this machine.

    Raises:
        ArtefactError: The artefact, its manifest or its golden vectors are missing or unreadable, or a runtime in
            the root fails on it.
        CheckpointError: The weights are missing, unreadable or of another model.
        DataError: A folder holds no photos, or more than 5 % of them cannot be read.
        DeviceError: The emulator or the root is missing; the message is what mends it.
        MissingExtraError: An engine is not installed.
    """
    root, subject, paths = find_root(request.arm64_root), _subject(request), find_photos(request)
    reference, source_gates = None, list[Gate]()
    if request.weights is not None:
        reference, source_gates = load_reference(request, subject.manifest, subject.golden)
    carried = read_tflite_file(subject.artefact).preprocessing
    with ExitStack() as stack:
        found = [_replayed(subject, root, engine, stack) for engine in root.engines()]
        gates = [*structure_gates(carried, found[0].runner.info, subject.manifest), *source_gates]
        _photo_gates(subject, found, reference, paths, progress)
    figures: dict[str, float] = {}
    for entry in found:
        gates += [replace(gate, name=f"{gate.name}, {entry.name}") for gate in entry.gates]
        key = entry.name.replace("-", "_")
        figures |= {f"arm64_{key}_{name}": value for name, value in entry.figures.items()}
    there = " and ".join(_named(entry.runner.info) for entry in found)
    runtime = f"{there} on {found[0].interpreter.machine}, against {_named(subject.here.info)} on {_here()}"
    remarks = tuple(entry.remark for entry in found)
    return VerificationReport(subject.artefact, runtime, tuple(gates), figures, remarks)


def _subject(request: VerifyRequest) -> _Subject:
    artefact = request.artefact
    if not artefact.is_file():
        raise ArtefactError(f"no artefact at {artefact}; give a .tflite file")
    manifest = request.manifest or read_manifest(manifest_path(artefact))
    return _Subject(
        artefact,
        manifest,
        request.golden or read_golden(golden_path(artefact)),
        request.thresholds or Thresholds.of(manifest.quantization),
        request.threads,
        TfliteRunner(artefact, threads=request.threads, preprocessing=manifest.preprocessing),
    )


def _replayed(subject: _Subject, root: Arm64Root, engine: Engine, stack: ExitStack) -> _Found:
    """Golden vectors in one runtime of the root; its process ends with the stack."""
    interpreter = EmulatedInterpreter(root, engine, subject.artefact, subject.threads)
    stack.callback(interpreter.close)
    runner = TfliteRunner(
        subject.artefact,
        threads=subject.threads,
        preprocessing=subject.manifest.preprocessing,
        opener=lambda _path, _threads: (engine, interpreter),
    )
    gates, figures, scores = replay_golden(runner, subject.golden, subject.thresholds)
    found = _Found(runner, interpreter, gates, figures)
    if scores is not None:
        _compare(found, "golden", scores, subject.here.run(subject.golden.images), subject.thresholds)
    stated = subject.manifest.artefact.partitions
    if engine.delegates and stated is not None:  # the same XNNPACK as here, more or less; an old one takes less
        found.gates.insert(0, division_gate(interpreter.partitions(), stated))
    return found


def _compare(
    found: _Found, pictures: str, there: Float32Array, here: Float32Array, thresholds: Thresholds
) -> None:
    """Nothing may be further from this machine's answers than an artefact of its kind may be from the model's."""
    name = f"{pictures} as on {_here()}"
    if not np.isfinite(there).all():
        found.gates.append(Gate.check(name, False, "NaN or infinity in the scores", "finite scores"))
        return
    difference = measure_difference(there, here, found.runner.info)
    found.figures |= difference.figures(f"{pictures}_as_here")
    parity = difference.parity
    if (limit := thresholds.max_relative_error) is not None:
        passed, measured = parity.relative_error <= limit, f"{parity.relative_error:.1e}"
        required = f"at most {limit:.0e}"
    else:
        least = thresholds.min_sqnr_db or 0.0
        passed, measured, required = parity.sqnr_db >= least, f"{parity.sqnr_db:.1f} dB", f"at least {least:g} dB"
    told = ", ".join(filter(None, (measured, str(difference))))
    found.gates.append(Gate.check(name, passed, told, required))


def _photo_gates(
    subject: _Subject, found: list[_Found], reference: Runner | None, paths: list[Path], progress: Progress | None
) -> None:
    """Answers to photos: there against here, and against the weights where those were given."""
    top1, least = f"top-1 as on {_here()}", subject.thresholds
    if not paths:
        skipped = Gate.skip(top1, "no photos given (--data DIR)", f"at least {100 * least.min_agreement:g} %")
        for entry in found:
            entry.gates.append(skipped)
        return
    runners: list[Runner] = [subject.here, *(entry.runner for entry in found)]
    asked = [*runners, reference] if reference is not None else runners
    scores, used, bad = answers(asked, paths, lambda given: given, progress)
    for entry, there in zip(found, scores[1:], strict=False):
        _compare(entry, "photos", there, scores[0], least)
        share = _share(there, scores[0])
        entry.gates.append(share_gate(top1, share, len(bad), least))
        entry.figures |= {"photos_as_here_top1_agreement": share.value, "photos": float(len(used))}
        if reference is not None:
            share = _share(there, scores[-1])
            entry.gates.append(share_gate(AGREEMENT, share, len(bad), least))
            entry.figures["photo_top1_agreement"] = share.value


def _share(ours: Float32Array, theirs: Float32Array) -> Share:
    same: npt.NDArray[np.bool_] = np.equal(ours.argmax(axis=1), theirs.argmax(axis=1))
    return Share.of(same)


def _named(info: ModelInfo) -> str:
    return f"{info.runtime} {info.runtime_version}"


def _here() -> str:
    return platform.machine()
