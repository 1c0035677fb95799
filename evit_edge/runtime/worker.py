"""What runs in the process that :mod:`evit_edge.runtime.isolated` starts: opens a model, then scores pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evit_edge.runtime.apart import at_most, enter
from evit_edge.runtime.wire import Message, receive, send

_GRACE_S = 5.0  # the parent ends this process first, as long as it lives


def main() -> None:
    """Answer until nobody asks any more."""
    answers = enter()
    try:
        order, _ = receive(0)
        patience_s = float(order["time_s"]) + _GRACE_S
        runner = _guarded(answers, patience_s, lambda: _opened(answers, order))
        while runner is not None:
            request, body = receive(0)
            _guarded(answers, patience_s, lambda: _score(answers, runner, request, body))  # noqa: B023 - called at once
    except (EOFError, BrokenPipeError):
        return


def _guarded(answers: int, patience_s: float, step: Callable[[], Any]) -> Any:
    """Do something, or tell why not."""
    try:
        with at_most(patience_s):
            return step()
    except (EOFError, BrokenPipeError):
        raise
    except BaseException as exc:  # whatever an engine raises, pyo3's panics included, is the parent's to tell
        send(answers, {"error": type(exc).__name__, "text": str(exc)[:4000]})
        return None


def _opened(answers: int, order: Message) -> Any:
    from evit_edge.preprocessing import Preprocessing
    from evit_edge.runtime.checks.limits import Limits
    from evit_edge.runtime.opening import open_runner
    from evit_edge.runtime.pixels import InputRange
    from evit_edge.strict_json import to_json

    rule, range_, labels = order["preprocessing"], order["input_range"], order["labels"]
    runner = open_runner(
        order["path"],
        threads=order["threads"],
        labels=None if labels is None else tuple(labels),
        input_range=None if range_ is None else InputRange(range_),
        preprocessing=None if rule is None else Preprocessing.from_json(rule),
        limits=Limits(order["memory_bytes"], order["time_s"]),
    )
    send(answers, {"info": to_json(runner.info)})
    return runner


def _score(answers: int, runner: Any, request: Message, body: bytearray) -> None:
    import numpy as np

    side = runner.info.image_size
    images = np.frombuffer(body, dtype=np.uint8).reshape(request["pictures"], side, side, 3)
    scores = np.ascontiguousarray(runner.run(images), dtype=np.float32)
    send(answers, {"shape": list(scores.shape), "remark": runner.info.remark}, scores.tobytes())


if __name__ == "__main__":
    main()
