"""Model directories: the dense part as a model, and the experts one layer after the other.

Belongs here: opening a directory without ever having all of its experts in memory. Does not: what is done with them.

Names and layouts differ between checkpoints and models (Mixtral's files hold one matrix for each expert, its modules
stacks of them); that is left to the conversions of `transformers`, which are run for one layer at a time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import torch  # noqa: TID253 - only what opens models imports this module
import transformers  # noqa: TID253
import xxhash
from safetensors import SafetensorError, safe_open
from torch import nn  # noqa: TID253
from transformers.conversion_mapping import get_model_conversion_mapping  # noqa: TID253
from transformers.core_model_loading import (  # noqa: TID253
    WeightConverter,
    WeightRenaming,
    convert_and_load_state_dict_in_model,
    rename_source_key,
)
from transformers.modeling_utils import LoadStateDictConfig  # noqa: TID253

import aura.experts.language.model  # noqa: F401 - makes the model type aura_moe known
from aura.experts.offload.errors import ModelFilesError
from aura.experts.offload.kernel import KERNEL, register
from aura.experts.offload.layout import ExpertLayer, expert_layers, stack_switch, strip

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a model directory.

    Raises:
        ModelFilesError: There are none, or one of the index is missing.
    """
    if not (directory / "config.json").is_file():
        raise ModelFilesError(f"{directory} is no model directory: it lacks config.json")
    index = directory / INDEX
    names = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.is_file() else [WEIGHTS]
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        raise ModelFilesError(f"{directory} lacks {', '.join(missing)}; save the model with safetensors")
    return [directory / name for name in names]


def fingerprint(directory: Path) -> str:
    """Names, sizes and times of change of the files that make a model: whether they may have changed.

    Raises:
        ModelFilesError: As `weight_files`.
    """
    files = [directory / "config.json", *weight_files(directory)]
    stats = [(file.name, file.stat()) for file in files]
    return xxhash.xxh3_128_hexdigest(repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]).encode())


def open_shell(directory: Path) -> nn.Module:
    """The model of a directory without the weights of its experts, which are never read. In evaluation mode.

    Raises:
        ModelFilesError: The directory is no model, or lacks weights.
    """
    register()
    complete = _model_class(directory)

    def construct(self: nn.Module, *arguments: object, **options: object) -> None:
        complete.__init__(self, *arguments, **options)
        strip(self)

    # The conversions of names go by the name of the class.
    body = {"__init__": construct, "_keys_to_ignore_on_load_unexpected": [r"\.experts\."]}
    shell: Any = type(complete.__name__, (complete,), body)
    model = _loaded(shell, directory)
    model.__class__ = complete
    model.set_experts_implementation(KERNEL)
    return cast("nn.Module", model.eval())


def open_complete(directory: Path) -> nn.Module:
    """The model of a directory with all its experts in memory, computed by the same kernel. In evaluation mode.

    Raises:
        ModelFilesError: The directory is no model, or lacks weights.
    """
    register()
    complete = _model_class(directory)
    model = _loaded(complete, directory)
    stack_switch(model)
    model.set_experts_implementation(KERNEL)
    return cast("nn.Module", model.eval())


def _loaded(kind: Any, directory: Path) -> Any:  # noqa: ANN401 - a class whose methods have no types
    with _quietly():
        model, report = kind.from_pretrained(
            directory, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    if absent := sorted(report["missing_keys"]):  # they would be random
        raise ModelFilesError(f"{directory} lacks the weights {', '.join(absent)}; save or download the model again")
    return model


def read_layers(directory: Path) -> Iterator[tuple[ExpertLayer, float]]:
    """The experts of one layer after the other, with their weights, which are gone when the next one is asked for.

    Yields:
        The layer, and the part of all layers that has been read with it, up to 1.

    Raises:
        ModelFilesError: The directory is no model with experts, or weights of a layer are missing or damaged.
    """
    files = weight_files(directory)
    config = _configuration(directory)
    with torch.device("meta"):
        model = _model_class(directory)._from_config(config, dtype=config.dtype)  # noqa: SLF001 - as the Auto classes do
    layers = expert_layers(model)
    mapping: list[Any] = get_model_conversion_mapping(model)
    load = LoadStateDictConfig(weight_mapping=mapping, dtype=config.dtype)
    with ExitStack() as opened:
        checkpoint = [opened.enter_context(_open_weights(file)) for file in files]
        slices = {key: file.get_slice(key) for file in checkpoint for key in file.keys()}  # noqa: SIM118 - no mapping
        of_layer = _by_layer(model, layers, slices, mapping)
        for number, layer in enumerate(layers, 1):
            with _quietly():
                convert_and_load_state_dict_in_model(model, of_layer[layer.name], load)
            absent = [name for name, parameter in layer.module.named_parameters() if parameter.is_meta]
            if absent:
                raise ModelFilesError(f"{directory} lacks the weights {', '.join(absent)} of {layer.name}")
            yield layer, number / len(layers)
            layer.module.to("meta")


def _by_layer(
    model: transformers.PreTrainedModel, layers: list[ExpertLayer], slices: dict[str, Any], mapping: list[Any]
) -> defaultdict[str, dict[str, Any]]:
    """By the layer's module, what the checkpoint holds of it."""
    renamings = [each for each in mapping if isinstance(each, WeightRenaming)]
    converters = [each for each in mapping if isinstance(each, WeightConverter)]
    parameters = model.state_dict()
    found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for key, lazy in slices.items():
        target, _ = rename_source_key(key, renamings, converters, model.base_model_prefix, parameters)
        for layer in layers:
            if target.startswith(f"{layer.name}."):
                found[layer.name][key] = lazy
    return found


def _open_weights(file: Path) -> Any:  # noqa: ANN401 - an object of Rust without types
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise ModelFilesError(f"{file} is damaged ({error}); save or download it again") from error


def _configuration(directory: Path) -> Any:  # noqa: ANN401 - each model type has its own
    try:
        return transformers.AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelFilesError(
            f"{directory / 'config.json'} is not one of transformers {transformers.__version__}, or needs code of the"
            f" model's own, which is not run: {error}"
        ) from error


def _model_class(directory: Path) -> Any:  # noqa: ANN401 - a class whose methods have no types
    config = _configuration(directory)
    if getattr(config, "quantization_config", None) is not None:
        raise ModelFilesError(
            f"{directory} is quantized; save a copy of the model in bfloat16 or float32 and name that"
        )
    auto: Any = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        try:
            return type(auto.from_config(config, trust_remote_code=False))
        except ValueError as error:
            raise ModelFilesError(f"{directory} holds a {config.model_type}, which is no language model") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """No bars of progress and no report of what is left out on purpose."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
