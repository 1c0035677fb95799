#!/bin/sh
# build_root.sh FOLDER: makes the root in which qemu-aarch64-static runs TFLite's runtimes for aarch64: Debian
# 12's Python for arm64 and the wheels of requirements.txt. apt works in folders of its own, so neither root's rights nor a
# foreign architecture in the host's dpkg are needed. PYTHON names the interpreter whose pip is used (python3).
#
# FOLDER/ready holds a hash of this file and of requirements.txt; where it is as it should be nothing is done.
set -eu
[ $# = 1 ] || { echo "one folder is needed: build_root.sh FOLDER" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$1
python=${PYTHON:-python3}
key=$(cat "$here/build_root.sh" "$here/requirements.txt" | sha256sum | cut -d' ' -f1)
[ "$(cat "$root/ready" 2>/dev/null)" != "$key" ] || exit 0

for program in apt-get dpkg "$python"; do
    command -v "$program" >/dev/null || { echo "$program is needed and not there (apt-get: Debian, Ubuntu)" >&2; exit 1; }
done
command -v qemu-aarch64-static >/dev/null \
    || { echo "qemu-aarch64-static is needed: sudo apt-get install qemu-user-static" >&2; exit 1; }
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || { echo "$keyring is needed: sudo apt-get install debian-archive-keyring" >&2; exit 1; }
if [ -e "$root" ] && [ ! -e "$root/ready" ] && [ -n "$(ls -A "$root" 2>/dev/null)" ]; then
    echo "$root is there and is no root of this program; name another folder" >&2
    exit 1
fi

mkdir -p "$(dirname "$root")"
work=$(mktemp -d "$(cd "$(dirname "$root")" && pwd)/.arm64-XXXXXX") # beside FOLDER: renamed at the end
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$work/apt/log" "$work/root"
: >"$work/apt/status"
for suite in bookworm bookworm-updates; do
    echo "deb [signed-by=$keyring] http://deb.debian.org/debian $suite main"
done >"$work/apt/sources.list"
echo "deb [signed-by=$keyring] http://deb.debian.org/debian-security bookworm-security main" >>"$work/apt/sources.list"
cat >"$work/apt/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Dir::State "$work/apt";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt";
Dir::Log "$work/apt/log";
Dir::Etc::sourcelist "$work/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::preferences "/dev/null";
END
export APT_CONFIG="$work/apt/apt.conf"

apt-get update -qq
apt-get install -y -qq --download-only python3.11-minimal libpython3.11-stdlib libstdc++6 zlib1g >/dev/null
for package in "$work"/apt/archives/*.deb; do
    dpkg -x "$package" "$work/root"
done
"$python" -m pip install -q --no-deps --no-compile --require-hashes --only-binary=:all: --python-version 3.11 \
    --implementation cp --platform manylinux2014_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_34_aarch64 \
    --target "$work/root/wheels" -r "$here/requirements.txt"

# The emulator shows the host's /proc/cpuinfo, and LiteRT looks for an Arm core there, finds none and crashes. What
# lies under the root goes before the host's: one Cortex-A76, with dot products, as qemu-aarch64-static -cpu emulates.
mkdir -p "$work/root/proc" "$work/root/sys/devices/system/cpu"
cat >"$work/root/proc/cpuinfo" <<END
processor	: 0
BogoMIPS	: 100.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x4
CPU part	: 0xd0b
CPU revision	: 1

END
for list in possible present; do
    echo 0 >"$work/root/sys/devices/system/cpu/$list"
done

PYTHONPATH="$work/root/wheels" qemu-aarch64-static -cpu cortex-a76 -L "$work/root" \
    "$work/root/usr/bin/python3.11" -B -s -c 'import ai_edge_litert.interpreter, tflite_runtime.interpreter'

echo "$key" >"$work/root/ready"
[ ! -e "$root" ] || mv "$root" "$work/before"
mv "$work/root" "$root"
