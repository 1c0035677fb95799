#!/bin/sh
# Prints the first interpreter that runs and has one of the given versions (3.11 3.12 3.13); exits 1 without one.
# It is started, not only looked up: version managers leave launchers for versions that are not switched on.
for name in python3.11 python3 python3.12 python3.13 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[123].*/bin/python3; do
    found=$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    for version in "$@"; do
        if [ "$found" = "$version" ]; then
            echo "$name"
            exit 0
        fi
    done
done
exit 1
