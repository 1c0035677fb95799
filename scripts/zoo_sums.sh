#!/bin/sh
# Writes the SHA-256 of every shipped file, which evit_edge/zoo/__init__.py compares before it gives a file out.
cd "$(dirname "$0")/../evit_edge/zoo"
LC_ALL=C
export LC_ALL
sha256sum everyday/*.json everyday/*.npz everyday/*.safetensors everyday/*.tflite golden/*.jpg > SHA256SUMS
