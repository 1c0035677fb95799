"""Small pictures as SVG text: scales with round ticks, and elements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """From values to pixels, straight or logarithmic.

    Attributes:
        low: Value at ``start``.
        high: Value at ``end``.
        start: Pixels.
        end: Pixels.
        logarithmic: Needs positive values.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value; values outside are held at the ends."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(at)
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, wanted: int = 6) -> tuple[float, ...]:
        """Round values inside."""
        return _decades(self.low, self.high) if self.logarithmic else round_values(self.low, self.high, wanted)


def round_values(low: float, high: float, wanted: int = 6) -> tuple[float, ...]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten, about as many as wanted."""
    if not high > low:
        return (low,)
    rough = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in _ROUND if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(i * step, 12) for i in range(first, last + 1))


def _decades(low: float, high: float) -> tuple[float, ...]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**exponent for exponent in exponents for factor in (1, 2, 5)]
    return tuple(round(v, 12) for v in values if low <= v <= high) or (low, high)


def number(value: float) -> str:
    """A coordinate, short."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


def element(name: str, content: str = "", /, **attributes: float | str) -> str:
    """One element; ``_`` in a name stands for ``-``, and content must be escaped already."""
    parts = [name]
    for key, value in attributes.items():
        text = value if isinstance(value, str) else number(value)
        parts.append(f'{key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    head = " ".join(parts)
    return f"<{head}>{content}</{name}>" if content else f"<{head}/>"


def text(x: float, y: float, words: str, *, css: str = "", anchor: str = "start") -> str:
    """A line of text."""
    return element("text", escape(words), x=x, y=y, class_=css, text_anchor=anchor)


def hint(words: str) -> str:
    """What a browser shows when the pointer rests on the element that holds it."""
    return element("title", escape(words))


def picture(width: float, height: float, title: str, parts: list[str]) -> str:
    """An SVG that scales to the page's width and has a name for those who do not see it."""
    box = f"0 0 {number(width)} {number(height)}"
    inside = element("title", escape(title)) + "".join(parts)
    return element("svg", inside, xmlns="http://www.w3.org/2000/svg", viewBox=box, role="img", aria_label=title)


def bottom_axis(scale: Scale, y: float, top: float, unit: str) -> list[str]:
    """Ticks below a plot, with lines through it."""
    parts = []
    for value in scale.ticks():
        x = scale(value)
        parts.append(element("line", x1=x, y1=top, x2=x, y2=y, class_="grid"))
        parts.append(text(x, y + 14, f"{value:g}", css="tick", anchor="middle"))
    parts.append(text(scale.end, y + 28, unit, css="tick", anchor="end"))
    return parts


def left_axis(scale: Scale, x: float, right: float, ticks: int = 3) -> list[str]:
    """Ticks left of a plot, with lines through it."""
    parts = []
    for value in scale.ticks(ticks):
        y = scale(value)
        parts.append(element("line", x1=x, y1=y, x2=right, y2=y, class_="grid"))
        parts.append(text(x - 6, y + 4, f"{value:g}", css="tick", anchor="end"))
    return parts
