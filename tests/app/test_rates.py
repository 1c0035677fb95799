import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_app.comparison import Tally
from evit_app.labels import LabelRule, Reading, Smoother
from evit_app.rates import Endurance, RateWindow, Steadiness
from evit_app.slot import Slot
from evit_edge.errors import RequestError

chances = st.lists(st.floats(0.01, 1), min_size=3, max_size=3).map(
    lambda values: np.array(values, np.float32) / np.float32(sum(values))
)


@given(rate=st.floats(1, 500), count=st.integers(2, 400))
def test_a_steady_rate_is_measured_as_it_is(rate, count):
    window = RateWindow(2.0)
    for i in range(count):
        window.add(i / rate)
    if rate >= 1:
        assert window.rate() == pytest.approx(rate)


@given(gaps=st.lists(st.just(0.0) | st.floats(1e-6, 5), max_size=50), window_s=st.floats(0.1, 10))
def test_a_rate_is_intervals_over_time_in_the_window(gaps, window_s):
    window, times = RateWindow(window_s), np.cumsum([0.0, *gaps])
    for time in times:
        window.add(float(time))
    inside = times[times >= times[-1] - window_s]
    if len(inside) < 2 or inside[-1] == inside[0]:
        assert window.rate() is None
    else:
        assert window.rate() == pytest.approx((len(inside) - 1) / (inside[-1] - inside[0]))


def test_a_rate_ends_with_what_it_counts():
    window = RateWindow(2.0)
    window.add(0.0)
    window.add(0.5)
    assert window.rate(1.0) == 2.0
    assert window.rate(2.25) is None


@pytest.mark.parametrize(
    ("later_s", "verdict"),
    [(0.011, Steadiness.STEADY), (0.013, Steadiness.THROTTLING)],
    ids=["scatter", "slower"],
)
def test_a_model_is_held_against_its_first_runs(later_s, verdict):
    endurance = Endurance()
    for _ in range(10):
        endurance.add(0.5)  # warming up
    for _ in range(60):
        endurance.add(0.010)
    for _ in range(59):
        endurance.add(later_s)
    assert endurance.verdict is Steadiness.MEASURING
    endurance.add(later_s)
    assert endurance.verdict is verdict


def test_a_slot_holds_the_latest_only():
    slot = Slot()
    assert [slot.put(i) for i in range(3)] == [False, True, True]
    assert slot.take(0) == 2
    assert slot.take(0) is None
    slot.put(3)
    slot.clear()
    assert slot.take(0) is None


@given(frames=st.lists(chances, min_size=1, max_size=20), gap=st.floats(0, 3), tau=st.floats(0.05, 5))
def test_smoothed_probabilities_stay_probabilities(frames, gap, tau):
    smoother = Smoother()
    for i, frame in enumerate(frames):
        smooth = smoother.add(frame, i * gap, tau)
    assert smooth.sum() == pytest.approx(1, abs=1e-4)
    assert np.min(frames, axis=0) == pytest.approx(np.minimum(smooth, np.min(frames, axis=0)), abs=1e-5)
    assert np.max(frames, axis=0) == pytest.approx(np.maximum(smooth, np.max(frames, axis=0)), abs=1e-5)


@given(first=chances, second=chances, steps=st.integers(1, 30), tau=st.floats(0.1, 2))
def test_smoothing_means_the_same_at_any_frame_rate(first, second, steps, tau):
    smoother = Smoother()
    smoother.add(first, 0.0, tau)
    for i in range(1, steps + 1):
        smooth = smoother.add(second, i / steps, tau)
    expected = second + (first - second) * np.exp(-1 / tau)
    np.testing.assert_allclose(smooth, expected, atol=1e-4)


def test_smoothing_can_be_switched_off_and_on():
    smoother, a, b = Smoother(), np.float32([1, 0, 0]), np.float32([0, 1, 0])
    smoother.add(a, 0.0, 1.0)
    np.testing.assert_array_equal(smoother.add(b, 0.1, None), b)
    np.testing.assert_array_equal(smoother.add(b, 0.2, 1.0), b)


@pytest.mark.parametrize(
    "field", [{"top": 0}, {"threshold": 1.5}, {"threshold": float("nan")}, {"smoothing_s": 0}, {"smoothing_s": -1}]
)
def test_a_rule_that_labels_nothing_is_refused(field):
    with pytest.raises(RequestError, match=r"accepted|needed"):
        LabelRule(**field)


def reading(top1, inference_s):
    return Reading((), True, top1, inference_s)


def test_two_models_are_compared_on_the_same_frames():
    tally = Tally()
    assert tally.comparison is None
    for i in range(12):
        assert (tally.comparison is None) is (i < 10)
        tally.add(reading("cat", 0.006), reading("cat" if i % 4 else "dog", 0.002))
    comparison = tally.comparison
    assert (comparison.frames, comparison.agreement) == (12, 0.75)
    assert comparison.speed_ratio == pytest.approx(3)
