"""Draw the app's icon and splash picture: the square that the model sees, and the bars of its answer.

python scripts/app_icon.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

ASSETS = Path(__file__).resolve().parents[1] / "app" / "assets"
SIDE, SCALE = 512, 4  # drawn larger and reduced, for smooth edges
BACKGROUND, LIGHT, BAR = (63, 81, 181), (255, 255, 255), (255, 202, 40)


def draw(background: tuple[int, int, int] | None) -> Image.Image:
    """The motif on a background, or on nothing."""
    full = SIDE * SCALE
    picture = Image.new("RGBA", (full, full), (*(background or LIGHT), 255 if background else 0))
    pen, unit = ImageDraw.Draw(picture), full // 32
    low, high, arm, width = 6 * unit, 26 * unit, 5 * unit, 3 * unit // 2
    for x, right in ((low, 1), (high, -1)):
        for y, down in ((low, 1), (high, -1)):
            line = [(x + right * arm, y), (x, y), (x, y + down * arm)]
            pen.line(line, fill=LIGHT, width=width, joint="curve")
    for i, length in enumerate((14, 8, 5)):
        top = (10 + 4 * i + 1) * unit
        box = (9 * unit, top, (9 + length) * unit, top + 2 * unit)
        pen.rounded_rectangle(box, unit, fill=BAR if i == 0 else LIGHT)
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main() -> None:
    """Write both."""
    ASSETS.mkdir(exist_ok=True)
    draw(BACKGROUND).convert("RGB").save(ASSETS / "icon.png", optimize=True)
    draw(None).save(ASSETS / "splash.png", optimize=True)


if __name__ == "__main__":
    main()
