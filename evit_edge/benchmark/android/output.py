"""Reading what TFLite's ``benchmark_model`` prints, in the forms that its versions have had.

- Until TensorFlow 1.14: ``Average inference timings in us: Warmup: W, Init: I, no stats: A``.
- Since then: ``Inference timings in us: Init: I, First inference: F, Warmup (avg): W, Inference (avg): A``, and
  memory as ``Peak memory footprint (MB)``, later ``Memory footprint delta from the start of the tool (MB)``.
- LiteRT's (``CompiledModel``) prints a block ``BENCHMARK RESULTS`` in milliseconds instead.
- All print a line ``count=... first=... min=... max=... avg=... std=...`` after the warm-up and after the runs;
  new ones add ``p5= median= p95=``. A single run is ``count=1 curr=...``.

Lines may begin with ``INFO: ``, with a source location, or, from the app, with logcat's header.
Sources: tensorflow/lite/tools/benchmark/benchmark_model.cc and tensorflow/core/util/stats_calculator.h of several
releases; litert/tools/benchmark_litert_model.h.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from evit_edge.errors import DeviceError

_LOGCAT = re.compile(r"^\d\d-\d\d \d\d:\d\d:\d\d\.\d+\s+\d+\s+\d+ [VDIWEF] \S+\s*: ?")
_LEVEL = re.compile(r"^(?:INFO|WARNING|ERROR|VERBOSE|FATAL): (?:\[[^\]]*\] ?)?")
_PAIR = re.compile(r"\b(count|first|curr|min|max|avg|std|median|p5|p95)=([0-9.eE+-]+)")
_TIMINGS = re.compile(r"^(?:Average )?[Ii]nference timings in us: (.+)$")
_NAMED = re.compile(r"([A-Za-z][A-Za-z ()]*): ([0-9.eE+-]+)")
_MEMORY = re.compile(
    r"footprint(?: delta from the start of the tool)? \(MB\): init=([0-9.eE+-]+) overall=([0-9.eE+-]+)"
)
_PEAK = re.compile(r"(?:Overall peak memory footprint \(MB\) via periodic monitoring|Peak memory): +([0-9.eE+-]+)")
_REPLACED = re.compile(
    r"Replacing (\d+)(?: out of (\d+))? node\(s\) with delegate \((\w+)\) node, yielding (\d+) partitions"
)
_LITERT = re.compile(
    r"^(Model initialization|Warmup \(first\)|Warmup \(avg\)|Inference \(avg\)|Overall footprint): +([0-9.]+)"
)
_REFUSED = (
    "will not be executed by the delegate",
    "Failed to apply",
    "delegate is not supported",
    "could not be loaded and registered",
)
_FAILED = (
    "Benchmarking failed",
    "ERROR: ",
    "Failed to",
    "CANNOT LINK EXECUTABLE",
    "not found",
    "Segmentation fault",
)
_MB = 1024 * 1024


@dataclass(frozen=True)
class Summary:
    """The figures of a number of runs, in seconds; what the version does not print is None.

    Attributes:
        count: Runs.
        first_s: The first.
        min_s: The shortest.
        max_s: The longest.
        mean_s: Arithmetic mean.
        std_s: Standard deviation, of the population.
        median_s: Median.
    """

    count: int
    first_s: float
    min_s: float
    max_s: float
    mean_s: float
    std_s: float | None = None
    median_s: float | None = None


@dataclass(frozen=True)
class Delegation:
    """What a delegate took.

    Attributes:
        delegate: Its name, such as ``TfLiteXNNPackDelegate``.
        nodes: Nodes that it took.
        of_nodes: Nodes of the graph, where printed.
        partitions: Pieces.
    """

    delegate: str
    nodes: int
    of_nodes: int | None
    partitions: int


@dataclass(frozen=True)
class ToolOutput:
    """One call of the tool.

    Attributes:
        warmup: Runs before.
        runs: The timed runs.
        init_s: Loading and preparing; None where not printed.
        first_inference_s: The very first inference.
        memory_bytes: Growth since the tool's start, or the peak where it was monitored.
        memory_method: Which of both.
        delegation: What a delegate took, the last one that said so.
        refused: Why a delegate did not take the graph; None where nothing was said.
    """

    warmup: Summary | None
    runs: Summary
    init_s: float | None
    first_inference_s: float | None
    memory_bytes: int | None
    memory_method: str
    delegation: Delegation | None
    refused: str | None


def parse_output(text: str) -> ToolOutput:
    """Read the output of one call.

    Raises:
        DeviceError: It holds no timed runs; the message has the tool's own reason.
    """
    lines = clean_lines(text)
    summaries = [found for line in lines if (found := _summary(line)) is not None]
    timings = _timings(lines)
    if not summaries or not timings:
        raise DeviceError(f"benchmark_model gave no times: {failure_reason(lines)}")
    memory, method = _memory(lines)
    return ToolOutput(
        warmup=summaries[0] if len(summaries) > 1 else None,
        runs=summaries[1] if len(summaries) > 1 else summaries[0],
        init_s=timings.get("init"),
        first_inference_s=timings.get("first") or (summaries[0].first_s if len(summaries) > 1 else None),
        memory_bytes=memory,
        memory_method=method,
        delegation=_delegation(lines),
        refused=next((line for line in lines if any(words in line for words in _REFUSED) and _asked(line)), None),
    )


def clean_lines(text: str) -> list[str]:
    """The lines without headers of loggers."""
    return [_LEVEL.sub("", _LOGCAT.sub("", line.rstrip())).strip("\r") for line in text.splitlines()]


def failure_reason(lines: list[str]) -> str:
    """The line that tells best why there are no times."""
    said = [line for line in lines if line.strip()]
    telling = [line for line in said if any(words in line for words in _FAILED)]
    return (telling or said or ["it printed nothing"])[-1].strip()


def _asked(line: str) -> bool:
    """LiteRT names accelerators that are not there even if nobody asked for them."""
    return "NPU accelerator" not in line and not line.startswith("GPU accelerator could not")


def _summary(line: str) -> Summary | None:
    """``Timings (microseconds): count=...`` of an op profile does not begin with count and is none."""
    if not line.startswith("count="):
        return None
    pairs = {key: float(value) for key, value in _PAIR.findall(line)}
    if pairs["count"] < 1:
        return None
    only = pairs.get("curr", 0.0)
    return Summary(
        count=int(pairs["count"]),
        first_s=1e-6 * pairs.get("first", only),
        min_s=1e-6 * pairs.get("min", only),
        max_s=1e-6 * pairs.get("max", only),
        mean_s=1e-6 * pairs.get("avg", only),
        std_s=1e-6 * pairs["std"] if "std" in pairs else None,
        median_s=1e-6 * pairs["median"] if "median" in pairs else None,
    )


def _timings(lines: list[str]) -> dict[str, float]:
    """Seconds by name: ``init`` and ``first`` where printed, and something else where anything was."""
    found: dict[str, float] = {}
    for line in lines:
        microseconds = _TIMINGS.match(line)
        if microseconds:
            named = {name.strip(): 1e-6 * float(value) for name, value in _NAMED.findall(microseconds.group(1))}
            found |= _known(named, "Init", "First inference") or {"mean": 0.0}
        milliseconds = _LITERT.match(line)
        if milliseconds:
            named = {milliseconds.group(1): 1e-3 * float(milliseconds.group(2))}
            found |= _known(named, "Model initialization", "Warmup (first)") or {"mean": 0.0}
    return found


def _known(named: dict[str, float], init: str, first: str) -> dict[str, float]:
    return {key: named[name] for key, name in (("init", init), ("first", first)) if name in named}


def _memory(lines: list[str]) -> tuple[int | None, str]:
    text = "\n".join(lines)
    peak = _PEAK.search(text)
    if peak:
        return int(float(peak.group(1)) * _MB), "peak, by benchmark_model's monitoring"
    grown = _MEMORY.search(text) or re.search(r"(Overall) footprint: +([0-9.]+) MB", text)
    if grown:
        return int(float(grown.group(2)) * _MB), "growth since the start, by benchmark_model"
    return None, ""


def _delegation(lines: list[str]) -> Delegation | None:
    found = [match for line in lines if (match := _REPLACED.search(line))]
    if not found:
        return None
    nodes, of_nodes, delegate, partitions = found[-1].groups()
    return Delegation(delegate, int(nodes), int(of_nodes) if of_nodes else None, int(partitions))
