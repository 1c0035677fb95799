#!/bin/sh
# make_venv.sh PYTHON FOLDER: makes an empty virtual environment; gets Debian's python3-venv where that is what lacks.
set -eu
python=$1
folder=$2
"$python" -m venv --clear "$folder" >/dev/null 2>&1 && exit 0
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
sh "$(dirname "$0")/debian_packages.sh" "python$version-venv"
"$python" -m venv --clear "$folder"
