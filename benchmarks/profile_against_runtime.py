"""How far ``evit-edge profile`` is from what LiteRT's own profiler says of the same file.

LiteRT 2.3's shared library has a profiler that looks into XNNPACK, behind a C interface that its Python package
does not offer; this script calls it through ctypes. It times each operator inside the whole graph, at the price of
two readings of the clock an operator. The command's pieces are the independent measurement.

    python benchmarks/profile_against_runtime.py FILE.tflite... [--runs 200] [--seconds 30] [--summary FILE]
"""

from __future__ import annotations

import argparse
import ctypes
from collections import Counter
from pathlib import Path

import ai_edge_litert

from evit_edge.benchmark.android.op_profile import NodeTime, parse_op_profile
from evit_edge.benchmark.figures import Bound
from evit_edge.profiling import OpClass, Profile, ProfileRequest, classify, profile
from evit_edge.runtime.engines import native_log

Handle = ctypes.c_void_p
CPU = 1
OPTIONS = b"enable_profiling = true\n"
OPTIONS_NAME = b"runtime_options_string"
WARM_UP = 20


def main() -> None:
    """Compare the shares of the classes, file by file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--summary", type=Path, help="where to keep the profiler's text of the last file")
    given = parser.parse_args()
    for path in given.files:
        with native_log():
            text = Profiled(path).summary(given.runs)
        if given.summary is not None:
            given.summary.write_text(text)
        found = profile(ProfileRequest(str(path), seconds=given.seconds))
        runtime = runtime_shares(
            parse_op_profile(text), pointwise=found.classes[0].op_class is OpClass.CONVOLUTION
        )
        print_shares(found, runtime)


def print_shares(found: Profile, runtime: dict[OpClass, float]) -> None:
    """Both shares of each class, in per cent of the whole, and of what computes."""
    print(f"\n{found.artefact}: {1e3 * found.whole_s:.2f} ms; {found.method}")
    print(f"{'class':<24}{'pieces %':>10}{'± %':>7}{'runtime %':>11}{'difference':>12}")
    for entry in found.classes:
        ours, theirs = 100 * entry.time_s / found.whole_s, 100 * runtime.get(entry.op_class, 0.0)
        error = 100 * (entry.error_s or 0.0) / found.whole_s
        print(f"{entry.op_class:<24}{ours:>10.1f}{error:>7.1f}{theirs:>11.1f}{ours - theirs:>+12.1f}")
    ours = 100 * found.bound_s(Bound.COMPUTE) / found.attributed_s
    theirs = 100 * sum(runtime[kind] for kind in runtime if kind.bound is Bound.COMPUTE)
    print(f"{'compute, of the sum':<24}{ours:>10.1f}{'':>7}{theirs:>11.1f}{ours - theirs:>+12.1f}")


def runtime_shares(nodes: tuple[NodeTime, ...], *, pointwise: bool) -> dict[OpClass, float]:
    """Shares of the classes; XNNPACK runs convolutions of one pixel as fully connected layers."""
    times: Counter[OpClass] = Counter()
    for node in nodes:
        op_class = classify(node.type)
        if pointwise and node.type.startswith("Fully Connected"):
            op_class = OpClass.CONVOLUTION
        times[op_class] += node.time_s
    total = sum(times.values())
    return {op_class: seconds / total for op_class, seconds in times.items()}


class Profiled:
    """A model in LiteRT with its profiler switched on."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(Path(ai_edge_litert.__file__).parent / "libLiteRt.so"))
        environment, model, options, opaque = (Handle() for _ in range(4))
        self._do("LiteRtCreateEnvironment", 0, None, ctypes.byref(environment))
        self._do("LiteRtCreateModelFromFile", environment, str(path).encode(), ctypes.byref(model))
        self._do("LiteRtCreateOptions", ctypes.byref(options))
        self._do("LiteRtSetOptionsHardwareAccelerators", options, CPU)
        # The library keeps both; they must live as long as it does.
        self._kept = ctypes.create_string_buffer(OPTIONS), ctypes.CFUNCTYPE(None, Handle)(lambda _: None)
        payload = ctypes.cast(self._kept[0], Handle)
        self._do("LiteRtCreateOpaqueOptions", OPTIONS_NAME, payload, self._kept[1], ctypes.byref(opaque))
        self._do("LiteRtAddOpaqueOptions", options, opaque)
        self._compiled, self._profiler, signature = Handle(), Handle(), Handle()
        self._do("LiteRtCreateCompiledModel", environment, model, options, ctypes.byref(self._compiled))
        self._do("LiteRtGetModelSignature", model, ctypes.c_size_t(0), ctypes.byref(signature))
        self._buffers = [self._allocated(environment, signature, kind) for kind in ("Input", "Output")]
        self._do("LiteRtCompiledModelGetProfiler", self._compiled, ctypes.byref(self._profiler))

    def summary(self, runs: int) -> str:
        """The profiler's text after so many runs."""
        for _ in range(WARM_UP):
            self._run()
        for _ in range(runs):
            self._do("LiteRtResetProfiler", self._profiler)
            self._do("LiteRtStartProfiler", self._profiler)
            self._run()
            self._do("LiteRtStopProfiler", self._profiler)
            text = ctypes.c_char_p()
            # Each call adds the events since the reset to the statistics that it prints.
            self._do("LiteRtGetProfileSummary", self._profiler, self._compiled, ctypes.byref(text))
        return (text.value or b"").decode()

    def _run(self) -> None:
        inputs, outputs = self._buffers
        sizes = ctypes.c_size_t(len(inputs)), ctypes.c_size_t(len(outputs))
        self._do("LiteRtRunCompiledModel", self._compiled, ctypes.c_size_t(0), sizes[0], inputs, sizes[1], outputs)

    def _allocated(self, environment: Handle, signature: Handle, kind: str) -> ctypes.Array[Handle]:
        count = ctypes.c_size_t()
        self._do(f"LiteRtGetNumSignature{kind}s", signature, ctypes.byref(count))
        buffers = (Handle * count.value)()
        for number in range(count.value):
            tensor, requirements, buffer = Handle(), Handle(), Handle()
            place, kept = ctypes.c_size_t(number), ctypes.create_string_buffer(512)  # larger than the struct
            self._do(f"LiteRtGetSignature{kind}TensorByIndex", signature, place, ctypes.byref(tensor))
            self._do("LiteRtGetRankedTensorType", tensor, kept)
            wanted = f"LiteRtGetCompiledModel{kind}BufferRequirements"
            self._do(wanted, self._compiled, ctypes.c_size_t(0), place, ctypes.byref(requirements))
            make = "LiteRtCreateManagedTensorBufferFromRequirements"
            self._do(make, environment, kept, requirements, ctypes.byref(buffer))
            buffers[number] = buffer
        return buffers

    def _do(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise SystemExit(f"{name} gave status {status}; this script knows ai-edge-litert 2.3")


if __name__ == "__main__":
    main()
