"""What the analyses need to be installed. Imports no torch."""

from __future__ import annotations

from evit_edge.errors import require_installed


def require_analysis(*more: str) -> None:
    """Find torch and what reads checkpoints.

    Args:
        more: Further modules, of the extra ``train``.

    Raises:
        MissingExtraError: One of them is not installed.
    """
    for module in ("torch", "safetensors"):
        require_installed(module, extra="convert")
    for module in more:
        require_installed(module, extra="train")
