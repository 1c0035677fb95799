"""What benchmark_model printed for others in the forms of its versions, read."""

from pathlib import Path

import pytest

from evit_edge.benchmark.android.assembly import pooled
from evit_edge.benchmark.android.op_profile import parse_op_profile
from evit_edge.benchmark.android.output import Summary, parse_output
from evit_edge.errors import DeviceError
from evit_edge.profiling import OpClass, classify

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "benchmark_model"


def golden(name: str) -> str:
    return (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


# version: runs, their mean, shortest, longest, load, first inference, memory in MB
EXPECTED = {
    "tf1-cpu": (15, 66.7676e-3, 66.699e-3, 66.838e-3, 9.933e-3, 127.425e-3, None),
    "tf2.3-cpu": (50, 33.2094e-3, 32.641e-3, 34.005e-3, 0.855e-3, 49.060e-3, 12.8672),
    "tf2.4-gpu": (50, 119.375e-3, 113.737e-3, 124.776e-3, 870.557e-3, 130.565e-3, None),
    "tf2.4-nnapi-profile": (50, 92.5712e-3, 89.745e-3, 96.719e-3, 365.972e-3, 120.877e-3, 61.0547),
    "tf2.8-profile": (50, 2.95034, 2.727568, 3.189954, 17.187e-3, 3.512391, 46.0859),
    "app-logcat": (25, 145.528e-3, 140.071e-3, 195.121e-3, 92.318e-3, 187.533e-3, 73.4102),
    "litert-arm": (2112, 464.545e-6, 442e-6, 979e-6, 4.48e-3, 1.03e-3, 11.51),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_times_and_memory(name):
    count, mean, low, high, load, first, memory = EXPECTED[name]
    found = parse_output(golden(name))
    figures = (found.runs.mean_s, found.runs.min_s, found.runs.max_s, found.init_s, found.first_inference_s)
    assert found.runs.count == count
    assert figures == pytest.approx((mean, low, high, load, first))
    assert found.memory_bytes == (None if memory is None else pytest.approx(memory * 2**20, abs=2))


def test_new_versions_tell_the_median_and_what_the_delegate_took():
    found = parse_output(golden("app-logcat"))
    assert found.runs.median_s == pytest.approx(141.253e-3)
    assert (found.delegation.delegate, found.delegation.nodes, found.delegation.of_nodes) == (
        "TfLiteXNNPackDelegate",
        539,
        548,
    )
    assert found.delegation.partitions == 19


def test_a_warm_up_of_one_run_is_read():
    warmup = parse_output(golden("tf2.8-profile")).warmup
    assert (warmup.count, warmup.mean_s, warmup.std_s) == (1, pytest.approx(3.512391), None)


def test_a_delegate_that_fails_is_named():
    with pytest.raises(DeviceError, match="gave no times: Benchmarking failed"):
        parse_output(golden("tf2.4-nnapi-failed"))


def test_a_delegate_that_declines_is_kept():
    line = "Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate."
    assert parse_output(line + "\n" + golden("tf2.3-cpu")).refused == line
    assert parse_output(golden("tf2.4-gpu")).refused is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CANNOT LINK EXECUTABLE: library not found",
        "count=0\n",
        golden("tf2.3-cpu").partition("Inference tim")[0],
    ],
    ids=["nothing", "linker", "no run", "cut off"],
)
def test_output_without_times_is_refused(text):
    with pytest.raises(DeviceError, match="benchmark_model gave no times"):
        parse_output(text)


# version: operators, sum of their times in ms, the longest one's type
PROFILES = {
    "tf1-profile": (7, 14.04, "CONV_2D"),
    "tf2.4-nnapi-profile": (11, 158.71, "TfLiteNnapiDelegate"),
    "tf2.8-profile": (7, 271.94, "CONV_2D"),
    "litert-arm": (4, 0.411, "Fully Connected (NC, PF32) GEMM"),
    "litert-2.3-summary": (66, 6.933, "Convolution (NHWC, QU8) IGEMM"),
}


@pytest.mark.parametrize("name", PROFILES)
def test_op_profiles(name):
    count, total_ms, longest = PROFILES[name]
    nodes = parse_op_profile(golden(name))
    assert len(nodes) == count
    assert 1e3 * sum(node.time_s for node in nodes) == pytest.approx(total_ms, rel=0.01)
    assert max(nodes, key=lambda node: node.time_s).type == longest


def test_initialization_is_no_operator():
    for name in PROFILES:
        assert not {"AllocateTensors", "ModifyGraphWithDelegate"} & {
            node.type for node in parse_op_profile(golden(name))
        }


def test_shares_resolve_what_the_milliseconds_round_away():
    adds = [node.time_s for node in parse_op_profile(golden("litert-2.3-summary")) if node.type == "Add (ND)"]
    assert len(set(adds)) > 3  # most of them are printed as 0.001 ms


def test_a_delegate_that_looks_inside_is_not_counted_twice():
    title = "Convolution (NHWC, F32) IGEMM"
    rows = [("TfLiteXNNPackDelegate", " 50.000%", "[output]:9"), (title, "100.000%", f"Delegate/{title}:0")]
    lines = [f"\t{kind}\t 1.000\t 1.000\t 50.000%\t{cdf}\t 0.000\t 1\t{name}" for kind, cdf, name in rows]
    text = "\n".join(["=== Run Order ===", *lines, "=== Top by Computation Time ==="])
    (node,) = parse_op_profile(text)
    assert (node.type, node.time_s) == ("Convolution (NHWC, F32) IGEMM", pytest.approx(1e-3))


def test_a_text_without_a_table_has_no_operators():
    assert parse_op_profile(golden("tf2.3-cpu")) == ()


def test_every_operator_of_the_goldens_has_a_class():
    unknown = {
        n.type for name in PROFILES for n in parse_op_profile(golden(name)) if classify(n.type) is OpClass.OTHER
    }
    assert unknown == {"LiteRT::Run[buffer registration]", "LiteRT::Run[Buffer sync]"}


def test_pooled_figures_are_those_of_all_runs():
    import numpy as np

    generator = np.random.default_rng(0)
    parts = [generator.uniform(1, 2, size) for size in (5, 9, 40)]
    summaries = [Summary(len(p), p[0], p.min(), p.max(), p.mean(), p.std()) for p in parts]
    every = np.concatenate(parts)
    found = pooled(summaries)
    assert (found.count, found.min_s, found.max_s) == (len(every), every.min(), every.max())
    assert found.mean_s == pytest.approx(every.mean())
    assert found.std_s == pytest.approx(every.std(ddof=1))
    assert found.p50_s is None  # it cannot be known
