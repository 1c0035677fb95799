"""Arm's kernels without an Arm: TFLite's runtimes for aarch64 in a root of their own, run by qemu."""

from evit_edge.runtime.arm64.interpreter import EmulatedInterpreter
from evit_edge.runtime.arm64.root import Arm64Root, find_root

__all__ = ["Arm64Root", "EmulatedInterpreter", "find_root"]
