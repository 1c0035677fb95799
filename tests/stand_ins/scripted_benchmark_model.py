"""Plays TFLite's benchmark_model on a scripted phone: prints its lines, with times that are made up.

``tool.json`` in the phone's folder says what happens:

- ``mean_us``: file name on the phone to the mean of its runs; ``slower``: factor by which each start takes longer
- ``gpu``: ``whole``, ``refused`` or ``failed``
- ``wait_s``: how long a start takes
- ``cut_at``: number of the start in which the cable is pulled; ``crash_at``: the one that ends without times
"""

import json
import os
import sys
import time
from pathlib import Path

PROFILE = """Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t   TfLiteXNNPackDelegate\t    1.000\t    1.000\t 50.000%\t 50.000%\t     0.000\t        1\t[output]:9
\tConvolution (NHWC, QS8, QC8W) IGEMM\t    0.600\t    0.600\t 30.000%\t 80.000%\t     0.000\t        1\tDelegate/Convolution (NHWC, QS8, QC8W) IGEMM:0
\tConvolution (NHWC, QS8, QC8W) DWConv\t    0.200\t    0.200\t 10.000%\t 90.000%\t     0.000\t        1\tDelegate/Convolution (NHWC, QS8, QC8W) DWConv:1
\tStatic Reshape (NC, X8)\t    0.000\t    0.000\t  0.020%\t 90.020%\t     0.000\t        1\tDelegate/Static Reshape (NC, X8):2
\t                    CAST\t    0.199\t    0.199\t  9.980%\t100.000%\t     0.000\t        1\t[input]:0

============================== Top by Computation Time =============================="""


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
        print(
            "VERBOSE: Replacing 9 out of 10 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions."
        )
    if given.get("use_nnapi") == "true":
        print("INFO: Created TensorFlow Lite delegate for NNAPI.")
        print("Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate.")
    mean = tool["mean_us"][os.path.basename(given["graph"])] * tool.get("slower", 1.0) ** number
    runs = int(given["num_runs"])
    print("Initialized session in 12.345ms.")
    for times, average in ((3, 1.2 * mean), (runs, mean)):
        low, high = 0.98 * average, 1.05 * average
        print(
            f"count={times} first={high:.0f} curr={average:.0f} min={low:.0f} max={high:.0f} avg={average:.6g} std=5\n"
        )
    print(f"Inference timings in us: Init: 12345, First inference: {2 * mean:.0f}, ", end="")
    print(f"Warmup (avg): {1.2 * mean:.6g}, Inference (avg): {mean:.6g}")
    print("Memory footprint delta from the start of the tool (MB): init=4.5 overall=9.25")
    if given.get("report_peak_memory_footprint") == "true":
        print("Overall peak memory footprint (MB) via periodic monitoring: 21.5")
    if given.get("enable_op_profiling") == "true":
        print(PROFILE)
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
