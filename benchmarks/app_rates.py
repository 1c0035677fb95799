"""Whether the app's pipeline keeps up: on a 640x480 video at 30 frames a second that the script makes itself.

Prints the share of min(source rate, 1 / inference time) that is sustained end to end, the delay from a picture to
its labels, and how memory grows. The screen is left out; with --jpeg each labelled frame is encoded as for one.

    python benchmarks/app_rates.py demo-output/everyday-int8.tflite
    python benchmarks/app_rates.py demo-output/everyday-int8.tflite --minutes 10 --jpeg
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import skimage.data

from evit_app.pipeline import Pipeline
from evit_app.sources import VideoFile
from evit_edge.classification import warm_up
from evit_edge.runtime import open_runner

SIZE = (640, 480)
RATE = 30.0
PHOTOS = ("astronaut", "cat", "coffee", "rocket")


@dataclass(frozen=True)
class Run:
    """What was seen.

    Attributes:
        source_rate: Frames a second that the video states.
        end_to_end: Labelled frames a second, from the first to the last.
        inference_s: Median time of the model, seconds.
        delays_s: From picture to labels, seconds.
        dropped: Frames that the model never saw.
        memory: Pairs of time (seconds) and resident size (bytes).
    """

    source_rate: float
    end_to_end: float
    inference_s: float
    delays_s: list[float]
    dropped: int
    memory: list[tuple[float, int]]


def write_video(path: Path) -> None:
    """Four photos for two seconds each, as motion JPEG."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE, SIZE)
    for name in PHOTOS:
        photo = cv2.resize(cv2.cvtColor(getattr(skimage.data, name)(), cv2.COLOR_RGB2BGR), SIZE)
        for _ in range(int(2 * RATE)):
            writer.write(photo)
    writer.release()


def measure(model: Path, video: Path, seconds: float, jpeg: bool) -> Run:
    """Let the pipeline run for some time, after two seconds that do not count."""
    runner = open_runner(model)
    warm_up(runner)
    source = VideoFile(video)
    pipeline = Pipeline(source, (runner,))
    pipeline.start()
    times, delays, inferences, memory = [], [], [], []
    began = time.perf_counter()
    next_memory = began + 2
    try:
        while (now := time.perf_counter()) < began + 2 + seconds and pipeline.running:
            labelled = pipeline.take(0.5)
            if now < began + 2 or labelled is None:
                continue
            if jpeg:
                cv2.imencode(".jpg", labelled.image)
            times.append(labelled.captured_s + labelled.stages.delay_s)
            delays.append(labelled.stages.delay_s)
            inferences.append(labelled.stages.inference_s)
            if now >= next_memory:
                memory.append((now - began, resident_bytes()))
                next_memory = now + 1
    finally:
        pipeline.stop()
    rate = (len(times) - 1) / (times[-1] - times[0])
    return Run(source.rate, rate, statistics.median(inferences), delays, pipeline.figures().dropped, memory)


def resident_bytes(process: int | str = "self") -> int:
    """Resident memory of this process, or of that with the number given (Linux)."""
    fields = Path(f"/proc/{process}/statm").read_text().split()
    return int(fields[1]) * 4096


def memory_slope(memory: list[tuple[float, int]]) -> float | None:
    """Least-squares slope in bytes a minute, after the first minute; None where no other minute follows it."""
    late = [(t / 60, size) for t, size in memory if t > 60]
    if len(late) < 60:
        return None
    return float(np.polyfit(*zip(*late, strict=True), 1)[0])


def report(run: Run) -> None:
    """Print it."""
    bound = min(run.source_rate, 1 / run.inference_s)
    p50, p90 = np.percentile(run.delays_s, (50, 90))
    slope = memory_slope(run.memory)
    print(f"source {run.source_rate:.1f}/s, model {1 / run.inference_s:.0f}/s, end to end {run.end_to_end:.1f}/s")
    print(f"sustained: {run.end_to_end / bound:.1%} of min(source, model); {run.dropped} frames dropped")
    print(f"picture to label: p50 {1000 * p50:.1f} ms, p90 {1000 * p90:.1f} ms over {len(run.delays_s)} frames")
    if slope is None:
        print("memory: run two minutes or more for its slope (--minutes)")
    else:
        print(
            f"memory: {slope / 1e6:+.2f} MB a minute after the first, {run.memory[-1][1] / 1e6:.0f} MB at the end"
        )


def main() -> None:
    """Read the options, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--jpeg", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "photos.avi"
        write_video(video)
        report(measure(options.model, video, 60 * options.minutes, options.jpeg))


if __name__ == "__main__":
    main()
