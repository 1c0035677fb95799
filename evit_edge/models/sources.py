"""Where weights come from: a path, the shipped model, the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from evit_edge.errors import CheckpointError, require
from evit_edge.zoo import EVERYDAY, checkpoint_path


def resolve(source: str | Path) -> tuple[Path, str]:
    """Turn what a user wrote after ``--weights`` into a file.

    Args:
        source: A path, ``everyday``, or ``hf:OWNER/NAME`` (optionally ``hf:OWNER/NAME/FILE``).

    Returns:
        The file's path (not yet opened) and a short name for the model.

    Raises:
        CheckpointError: The hub cannot be reached or has no such weights.
        MissingExtraError: huggingface_hub is not installed.
    """
    text = str(source)
    if text == EVERYDAY:
        return checkpoint_path(EVERYDAY), EVERYDAY
    if text.startswith("hf:"):
        return _download(text.removeprefix("hf:")), text.rsplit("/", 1)[-1].split(".", maxsplit=1)[0]
    path = Path(source)
    return path, path.stem


def _download(reference: str) -> Path:
    hub = require("huggingface_hub", extra="convert")
    # The error below says in one line what the client's retries say in twelve.
    require("huggingface_hub.utils.logging", extra="convert").set_verbosity_error()
    # Otherwise each request tells the hub which versions of torch and other libraries are installed here.
    vars(require("huggingface_hub.constants", extra="convert"))["HF_HUB_DISABLE_TELEMETRY"] = True
    missing = require("huggingface_hub.errors", extra="convert")
    parts = reference.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise CheckpointError(f"hf:{reference} given; hf:OWNER/NAME or hf:OWNER/NAME/FILE is needed")
    repository = "/".join(parts[:2])
    names = parts[2:] or ["model.safetensors", "pytorch_model.bin"]
    failure: Exception | None = None
    for name in names:
        try:
            return Path(hub.hf_hub_download(repo_id=repository, filename=name))
        except missing.EntryNotFoundError as exc:
            failure = exc
        except Exception as exc:  # the client's own, its transport's and the system's errors share no base
            failure = exc
            break
    reason = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
    raise CheckpointError(
        f"hf:{reference} could not be downloaded ({reason}); check the name and the network, or give a local file"
    ) from failure
