"""Mutants by module: ``python scripts/mutation_figures.py FOLDER``, the folder ``mutants`` that mutmut made.

Killed are those that a test failed on, and those on which the tests went on for ever. Ends with 1 where less than
85 % of all are, or where some were not tried.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

LEAST = 85.0
_MEANING = {1: "killed", 3: "killed", 0: "survived", 33: "survived", 5: "survived", None: "not tried"}
_OUT_OF_TIME = (-24, 24, 36, 152, 255)


def figures(folder: Path) -> dict[str, Counter[str]]:
    """Of each module that was mutated, and of all; mutants that no test reaches have survived.

    Raises:
        ValueError: There are no mutants.
    """
    found: dict[str, Counter[str]] = {}
    for path in sorted(folder.rglob("*.py.meta")):
        codes = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"].values()
        counts = Counter("timeout" if code in _OUT_OF_TIME else _MEANING.get(code, "odd") for code in codes)
        if counts:
            found[path.relative_to(folder).as_posix().removesuffix(".meta")] = counts
    if not found:
        raise ValueError(f"no mutants in {folder}; `make mutants` makes them")
    return found | {"all": sum(found.values(), Counter())}


def share(counts: Counter[str]) -> float:
    """Per cent killed."""
    return 100 * (counts["killed"] + counts["timeout"]) / counts.total()


def main(folder: str) -> int:
    """Print the table; 1 where too few were killed."""
    table = figures(Path(folder))
    columns = ("killed", "timeout", "survived", "odd", "not tried")
    sys.stdout.write(f"{'':36}{'mutants':>8}" + "".join(f"{name:>10}" for name in columns) + f"{'':>9}\n")
    for name, counts in table.items():
        cells = "".join(f"{counts[column]:10}" for column in columns)
        sys.stdout.write(f"{name:36}{counts.total():8}{cells}{share(counts):8.1f}%\n")
    done = share(table["all"]) >= LEAST and not table["all"]["not tried"]
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
