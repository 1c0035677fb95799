"""Write the part of TensorFlow Lite's schema that the check of foreign files needs, from the installed one.

    python scripts/tflite_schema.py > evit_edge/runtime/checks/tflite_schema.txt

A line for each table, its fields in order: 1, 2, 4, 8 a number of as many bytes; [1] to [8] a vector of those;
``string``; a table's name; [NAME] a vector of tables; ``=NAME`` a union, whose kind is the field before; ``-`` a
field that nobody uses any more. A line ``=NAME`` lists a union's tables.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import ai_edge_litert.schema_py_generated as generated

SIZES = {"Bool": "1", "Int8": "1", "Uint8": "1", "Int16": "2", "Uint16": "2", "Int32": "4", "Uint32": "4"}
SIZES |= {"Float32": "4", "Int64": "8", "Uint64": "8"}
UNIONS = {
    ("Operator", 4): "BuiltinOptions",
    ("Operator", 12): "BuiltinOptions2",
    ("QuantizationParameters", 5): "QuantizationDetails",
    ("DimensionMetadata", 3): "SparseIndexVector",
    ("DimensionMetadata", 5): "SparseIndexVector",
}


def tables(source: str) -> dict[str, list[str]]:
    """Every table's fields."""
    found = {}
    parts = re.split(r"^class (\w+)\(object\):", source, flags=re.MULTILINE)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        size = re.search(r"builder\.StartObject\((\d+)\)", body)
        if size is not None:
            found[name] = fields(name, body, int(size[1]))
    return found


def fields(name: str, body: str, count: int) -> list[str]:
    """One table's fields, from the functions that write and read them."""
    row = ["-"] * count
    pattern = rf"def {name}Add(\w+)\(builder, \w+\):\s+builder\.Prepend(\w+)Slot\((\d+)"
    for field, kind, slot in re.findall(pattern, body):
        number = int(slot)
        if (name, number) in UNIONS:
            row[number] = f"={UNIONS[name, number]}"
        elif kind != "UOffsetTRelative":
            row[number] = SIZES[kind]
        else:
            row[number] = reference(name, field, body)
    return row


def reference(name: str, field: str, body: str) -> str:
    """What an offset leads to."""
    vector = re.search(
        rf"def {name}Start{field}Vector\(builder, numElems\):\s+return builder\.StartVector\((\d)", body
    )
    reader = re.search(rf"    def {field}\(self(?:, j)?\):(.*?)(?=\n    # |\ndef )", body, flags=re.DOTALL)
    text = reader[1] if reader else ""
    table = re.search(r"obj = (\w+)\(\)", text)
    if vector is not None:
        return f"[{table[1]}]" if table else f"[{vector[1]}]"
    if table is not None:
        return table[1]
    if "String" not in text:
        raise ValueError(f"{name}.{field} is of no known kind")
    return "string"


def unions() -> dict[str, list[str]]:
    """Every union's tables, in the order of their numbers."""
    found = {}
    for name in sorted(set(UNIONS.values())):
        named = vars(getattr(generated, name)).items()
        members = {value: key for key, value in named if isinstance(value, int) and not key.startswith("__")}
        found[name] = [members[i] for i in range(len(members))]
    return found


def text() -> str:
    """The whole."""
    source = Path(generated.__file__).read_text(encoding="utf-8")
    lines = [f"={name} {' '.join(members)}" for name, members in unions().items()]
    lines += [" ".join([name, *row]) for name, row in sorted(tables(source).items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
