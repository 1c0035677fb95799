"""Arm's kernels without an Arm: tflite-runtime for aarch64 in a root of its own, run by ``qemu-aarch64-static``."""

from evit_edge.runtime.arm64.interpreter import EmulatedInterpreter, emulated
from evit_edge.runtime.arm64.root import Arm64Root, find_root

__all__ = ["Arm64Root", "EmulatedInterpreter", "emulated", "find_root"]
