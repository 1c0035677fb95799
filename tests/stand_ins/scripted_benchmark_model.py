"""Plays TFLite's benchmark_model on a scripted phone: prints its lines, with times that are made up.

``tool.json`` in the phone's folder says what happens:

- ``mean_us``: file name on the phone to the mean of its runs; ``slower``: factor by which each start takes longer
- ``gpu``: ``whole``, ``refused`` or ``failed``
- ``wait_s``: how long a start takes
- ``cut_at``: number of the start in which the cable is pulled; ``crash_at``: the one that ends without times
"""

import json
import sys
import time
from pathlib import Path

ROWS = (  # type, average in ms, share in percent, name
    ("TfLiteXNNPackDelegate", 1.0, 50.0, "[output]:9"),
    ("Convolution (NHWC, QS8, QC8W) IGEMM", 0.6, 30.0, "Delegate/Convolution (NHWC, QS8, QC8W) IGEMM:0"),
    ("Convolution (NHWC, QS8, QC8W) DWConv", 0.2, 10.0, "Delegate/Convolution (NHWC, QS8, QC8W) DWConv:1"),
    ("Static Reshape (NC, X8)", 0.0, 0.02, "Delegate/Static Reshape (NC, X8):2"),
    ("CAST", 0.199, 9.98, "[input]:0"),
)


def print_profile():
    print("Operator-wise Profiling Info for Regular Benchmark Runs:")
    print(f"{'=' * 30} Run Order {'=' * 30}")
    print("\t [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]")
    total = 0.0
    for kind, average, share, name in ROWS:
        total += share
        times = f"{average:9.3f}\t{average:9.3f}\t{share:7.3f}%\t{total:7.3f}%"
        print(f"\t{kind:>24}\t{times}\t     0.000\t        1\t{name}")
    print(f"\n{'=' * 30} Top by Computation Time {'=' * 30}")


def main(root, arguments):
    given = dict(argument.removeprefix("--").partition("=")[::2] for argument in arguments)
    if "graph" not in given:
        print("usage: benchmark_model")
        return 1
    tool = json.loads((root / "tool.json").read_text())
    number = count(root)
    with (root / "calls.txt").open("a") as stream:
        stream.write(" ".join(arguments) + "\n")
    print(f"STARTING!\nLog parameter values verbosely: [0]\nNum threads: [{given['num_threads']}]")
    print(f"Graph: [{given['graph']}]\nLoaded model {given['graph']}", flush=True)
    if not Path(given["graph"]).is_file():
        print(f"ERROR: Could not open '{given['graph']}'.\nFailed to load the model\nBenchmarking failed.")
        return 1
    time.sleep(tool.get("wait_s", 0))
    if number == tool.get("cut_at"):
        (root / "cut").touch()
        time.sleep(60)
    if number == tool.get("crash_at"):
        print("Segmentation fault")
        return 139
    return measured(given, tool, number)


def count(root):
    path = root / "starts.txt"
    number = int(path.read_text()) + 1 if path.exists() else 0
    path.write_text(str(number))
    return number


def measured(given, tool, number):
    if given.get("use_gpu") == "true" and not accelerated(tool.get("gpu", "whole")):
        return 1
    if given.get("use_gpu") != "true" and given.get("use_nnapi") != "true":
        print("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.")
        print("Replacing 9 out of 10 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions.")
    if given.get("use_nnapi") == "true":
        print("INFO: Created TensorFlow Lite delegate for NNAPI.")
        print("Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate.")
    mean = tool["mean_us"][Path(given["graph"]).name] * tool.get("slower", 1.0) ** number
    runs = int(given["num_runs"])
    print("Initialized session in 12.345ms.")
    for times, average in ((3, 1.2 * mean), (runs, mean)):
        low, high = 0.98 * average, 1.05 * average
        print(
            f"count={times} first={high:.0f} curr={average:.0f} min={low:.0f} max={high:.0f} "
            f"avg={average:.6g} std=5\n"
        )
    print(f"Inference timings in us: Init: 12345, First inference: {2 * mean:.0f}, ", end="")
    print(f"Warmup (avg): {1.2 * mean:.6g}, Inference (avg): {mean:.6g}")
    print("Memory footprint delta from the start of the tool (MB): init=4.5 overall=9.25")
    if given.get("report_peak_memory_footprint") == "true":
        print("Overall peak memory footprint (MB) via periodic monitoring: 21.5")
    if given.get("enable_op_profiling") == "true":
        print_profile()
    return 0


def accelerated(outcome):
    print("INFO: Created TensorFlow Lite delegate for GPU.")
    if outcome == "failed":
        print("ERROR: TfLiteGpuDelegate Init: no OpenCL\nFailed to apply GPU delegate.\nBenchmarking failed.")
        return False
    if outcome == "whole":
        print("Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.")
    else:
        print("Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate.")
    return True


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
