#!/bin/sh
# mutants.sh PYTHON [NAME...]: mutation testing of the modules that pyproject.toml lists ([tool.mutmut]), or, of an
# earlier run, again of the mutants named (patterns such as 'evit_calibration.budget*'). Prints a table by module, and
# fails where too few mutants are killed. CHILDREN=1 in the environment: one at a time.
set -e
cd "$(dirname "$0")/.."
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
root=$(pwd)
shift
folder=build/mutation
[ $# -gt 0 ] || rm -rf "$folder"
mkdir -p "$folder"
for part in evit_edge converters/evit_converters calibration/evit_calibration tests pyproject.toml; do
    rm -rf "$folder/$(basename $part)"
    cp -R "$part" "$folder"
done
cd "$folder"
# One example the same every time: a mutant is not killed by luck.
export CI=true OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONPATH="$(pwd)${PYTHONPATH:+:$PYTHONPATH}"
"$python" -m mutmut run --max-children "${CHILDREN:-2}" "$@" > mutmut.log 2>&1 || { tail -n 20 mutmut.log >&2; exit 1; }
"$python" "$root/scripts/mutation_figures.py" mutants
