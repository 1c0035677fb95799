"""Cut a font down to the characters that the app shows, so that Korean needs no download.

    python scripts/subset_font.py NanumBarunGothic.ttf        # Debian's package fonts-nanum, OFL 1.1

The licence reserves the original's name, so the result has another.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

from evit_app.texts import LANGUAGES

NAME = "EvitSans"
TARGET = Path(__file__).resolve().parents[1] / "app" / "evit_app" / "assets" / "fonts" / f"{NAME}.ttf"


def characters() -> set[str]:
    """Everything that the texts use, and Latin letters for class names."""
    latin = {chr(code) for code in (*range(0x20, 0x7F), *range(0xA0, 0x100))}
    texts = {letter for language in LANGUAGES for text in vars(language).values() for letter in text}
    return latin | texts | {chr(code) for code in (0x2013, 0x2019, 0x201C, 0x201D, 0x2026)}


def cut(source: Path, target: Path) -> None:
    """Write the subset under its own name."""
    font = TTFont(source)
    options = subset.Options(hinting=False, layout_features=["kern"], name_IDs=[0, 1, 2, 3, 4, 5, 6, 13, 14])
    subsetter = subset.Subsetter(options)
    subsetter.populate(text="".join(sorted(characters())))
    subsetter.subset(font)
    for record in font["name"].names:
        if record.nameID in (1, 3, 4, 6):
            record.string = NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    font.save(target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("font", type=Path)
    cut(parser.parse_args().font, TARGET)
