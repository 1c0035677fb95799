#!/bin/sh
# side_environments.sh PYTHON [NAME...]: builds the environments that tests start programs in, an emulated Arm among
# them, and installs the browser for the app's tests, or only what is named; where this machine forbids it, says why.
# A file `ready` in the environment's folder tells the tests that it works. In CI (CI=true) all must work.
cd "$(dirname "$0")/.."
failed=0

skip() {
    echo "skipped: .envs/$1: $2; its tests are skipped too" >&2
    failed=1
}

build() { # build NAME PYTHON: the pinned packages of tests/environments/NAME.txt
    sh scripts/make_venv.sh "$2" ".envs/$1" \
        && ".envs/$1/bin/python" -m pip install -q --no-deps -r "tests/environments/$1.txt"
}

up_to_date() { # up_to_date NAME FILES: it works, and is newer than the files that it was built from
    ready=.envs/$1/ready
    shift
    [ -e "$ready" ] && [ -z "$(find "$@" -newer "$ready")" ]
}

tflite_runtime() {
    name=tflite-runtime
    up_to_date $name tests/environments/$name.txt pyproject.toml && return
    python=$(sh scripts/find_python.sh 3.11) || { skip $name "tflite-runtime 2.14 needs Python 3.11"; return; }
    echo "building .envs/$name"
    build $name "$python" && ".envs/$name/bin/python" -m pip install -q --no-deps -e . \
        || { skip $name "its packages cannot be installed"; return; }
    ".envs/$name/bin/python" -c 'import evit_edge, tflite_runtime.interpreter' && touch .envs/$name/ready \
        || skip $name "tflite-runtime cannot be imported"
}

mediapipe() {
    name=mediapipe
    up_to_date $name tests/environments/$name.txt && return
    echo "building .envs/$name"
    build $name "$1" || { skip $name "its packages cannot be installed"; return; }
    sh scripts/debian_packages.sh libegl1 libgles2 || true
    ".envs/$name/bin/python" -c 'from mediapipe.tasks.python import vision' && touch .envs/$name/ready \
        || skip $name "mediapipe cannot be imported (it needs libEGL and libGLESv2)"
}

arm64() { # not an environment: Debian's arm64 Python with TFLite's runtimes, for the emulator
    name=arm64
    sh scripts/debian_packages.sh qemu-user-static || { skip $name "qemu-user-static cannot be installed"; return; }
    sh scripts/debian_packages.sh qemu-user gcc libc6-dev \
        || { echo "skipped: what counts instructions cannot be installed; its tests are skipped too" >&2; failed=1; }
    PYTHON=$1 tools/arm64 ".envs/$name" || skip $name "its packages cannot be had, or do not run (it says above why)"
}

browser() { # a package of the system, no environment; a function named chromium would find itself
    for name in chromium chromium-browser google-chrome; do
        command -v $name >/dev/null && return
    done
    sh scripts/debian_packages.sh chromium && return
    echo "skipped: Chromium cannot be installed here; the app's tests in a browser are skipped too" >&2
    failed=1
}

phones() { # adb, which tests call without a phone
    command -v adb >/dev/null || sh scripts/debian_packages.sh adb \
        || echo "skipped: adb cannot be installed here; its tests are skipped too" >&2
}

interpreter=$1
shift
for wanted in ${*:-tflite_runtime mediapipe browser phones arm64}; do
    $wanted "$interpreter"
done
case "${CI:-}" in
    1 | true) exit $failed ;;
esac
exit 0
