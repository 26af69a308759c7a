"""A hub id or a folder in the hub's layout <-> modules. The only file that touches weights on disk.

Strict in both directions: every tensor of a file is used or ignored for a reason that has a name, every
parameter is filled, every value is finite, every key of a config is understood and in bounds before anything
is built from it. No code that a file brings is ever run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from weights_convert import diffusers_layout, hub_config
from weights_convert.clap_layout import clap_facts, clap_tensors, clap_to_hub
from weights_convert.hub_folder import NETWORKS, STEMS, WeightFiles, find_weights
from weights_convert.mapping import Table, convert, invert
from weights_convert.reading import CheckpointError, read_json, read_tensors
from weights_convert.writing import folder_in_one_piece, write_json, write_tensors

from . import schedulers
from .clap import CLAP, ClapConfig, ClapModel, FrontEnd, Tokenizer
from .hub import resolve
from .unet import UNet, UNetConfig
from .vae import VAE, VAEConfig
from .vocoder import HiFiGAN, VocoderConfig

__all__ = [
    "CheckpointError",
    "Heads",
    "check_index",
    "empty_network",
    "hub_tensors",
    "load_clap",
    "load_components",
    "load_feature_extractor",
    "load_front_end",
    "load_network",
    "load_scheduler",
    "model_index",
    "read_tensors",
    "save_components",
    "save_network",
    "trained_heads",
]

Heads = Literal["as-trained"] | tuple[int, ...] | None

TRAINED_HEAD_WIDTH = 32  # channels per head in the authors' U-Net: 8, 12, 20 heads at widths 256, 384, 640

COMPONENTS = (*NETWORKS, "tokenizer", "feature_extractor", "scheduler")


def load_components(
    id_or_folder: str | os.PathLike[str],
    *,
    torch_dtype: torch.dtype | None = None,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    heads: Heads = None,
) -> dict[str, Any]:
    """The seven parts of a pipeline, under the hub's names, modules in evaluation mode.

    torch_dtype: None keeps what the files hold. variant: "fp16" reads `*.fp16.safetensors`. heads: None as
    the U-Net's config says; "as-trained" as the authors trained (one head per 32 channels); or a count per
    level.

    Raises CheckpointError if a file is missing or broken, ConfigError or MappingError (all ValueErrors) if it
    does not describe or fit a MusicLDM; TypeError if torch_dtype is no floating dtype.
    """
    if torch_dtype is not None and not (
        isinstance(torch_dtype, torch.dtype) and torch_dtype.is_floating_point
    ):
        raise TypeError(f"torch_dtype: got {torch_dtype!r}, expected None or one like torch.float16")
    try:
        root = resolve(
            id_or_folder,
            revision=revision,
            variant=variant,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        check_index(root / "model_index.json")
        # every config, name, shape and small part first: what is wrong with them need not wait for gigabytes
        small = {"scheduler": _scheduler(root / "scheduler"), **load_front_end(root)}
        checked = {name: _checked(root / name, name, variant, heads) for name in NETWORKS}
        return {**{name: _load(network, torch_dtype) for name, network in checked.items()}, **small}
    except OSError as error:  # a folder that may not be entered, a disk that fails
        raise CheckpointError(f"checkpoint {os.fspath(id_or_folder)!r} cannot be read: {error}") from error


def check_index(path: Path) -> None:
    """Raises CheckpointError unless a model_index.json describes a MusicLDM pipeline of seven parts."""
    index = read_json(path)
    said = index.get("_class_name", "MusicLDMPipeline")
    if said != "MusicLDMPipeline":
        raise CheckpointError(f"{path} describes a {said!r:.80}, expected a MusicLDMPipeline")
    missing = sorted(set(COMPONENTS) - set(index))
    if missing:
        raise CheckpointError(f"{path} names no {', '.join(missing)}: this is not a MusicLDM pipeline")


def empty_network(
    component: str, config: Mapping[str, Any], where: str, heads: Heads = None
) -> tuple[nn.Module, Table]:
    """A network of a hub config on the meta device, and the table of its weights.

    `where` names the config in the error. Raises ConfigError if it does not describe one.
    """
    with torch.device("meta"), _config_errors(where):
        if component == "unet":
            unet_config = UNetConfig(**hub_config.unet_from_hub(config, where))
            return UNet(_with_heads(unet_config, heads)), diffusers_layout.UNET
        if component == "vae":
            return VAE(VAEConfig(**hub_config.vae_from_hub(config, where))), diffusers_layout.VAE
        if component == "text_encoder":
            return ClapModel(ClapConfig.from_facts(clap_facts(config, where))), diffusers_layout.CLAP
        vocoder_config = VocoderConfig(**hub_config.vocoder_from_hub(config, where))
        return HiFiGAN(vocoder_config), _vocoder_table(vocoder_config)


@contextmanager
def _config_errors(where: str) -> Iterator[None]:
    """Numbers that are each fine and do not go together: the modules' own errors, with the file's name."""
    try:
        yield
    except hub_config.ConfigError:
        raise
    except ValueError as error:
        raise hub_config.ConfigError(f"{where}: {error}") from error


def hub_tensors(component: str, config: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The tensors that a component of this hub config has in the hub's layout, without values (meta device).

    Raises as `empty_network`.
    """
    if component == "text_encoder":
        return clap_tensors(clap_facts(config, where))
    module, table = empty_network(component, config, where)
    return {name: tensor.to("meta") for name, tensor in invert(table, module.state_dict()).items()}


def trained_heads(config: UNetConfig) -> tuple[int, ...]:
    """Head counts per level as the authors trained: one per 32 channels.

    Raises ValueError if a width is no multiple of 32.
    """
    widths = [width for width, heads in zip(config.block_out_channels, config.heads, strict=True) if heads]
    if any(width % TRAINED_HEAD_WIDTH for width in widths):
        raise ValueError(
            f'heads="as-trained" means {TRAINED_HEAD_WIDTH} channels per head, and this U-Net has widths '
            f"{widths}; give the counts themselves, one per level"
        )
    return tuple(
        width // TRAINED_HEAD_WIDTH if heads else 0
        for width, heads in zip(config.block_out_channels, config.heads, strict=True)
    )


def _with_heads(config: UNetConfig, heads: Heads) -> UNetConfig:
    if heads is None:
        return config
    if heads == "as-trained":
        return replace(config, heads=trained_heads(config))
    if not isinstance(heads, (tuple, list)) or not all(type(n) is int and n >= 0 for n in heads):
        raise ValueError(f'heads: got {heads!r}, expected None, "as-trained", or a count per level')
    return replace(config, heads=tuple(heads))


def _vocoder_table(config: VocoderConfig) -> Table:
    return diffusers_layout.vocoder(len(config.upsample_rates), len(config.resblock_kernel_sizes))


@dataclass(frozen=True)
class _Checked:
    """A network whose config, tensor names and shapes are right, and whose weights are not yet read."""

    files: WeightFiles
    table: Table
    module: nn.Module  # on the meta device


def _checked(folder: Path, name: str, variant: str | None, heads: Heads) -> _Checked:
    path = folder / "config.json"
    module, table = empty_network(name, read_json(path), str(path), heads if name == "unet" else None)
    files = find_weights(folder, name, variant)
    convert(table, files.shapes(), module.state_dict(), where=files.where)
    return _Checked(files, table, module)


def _load(network: _Checked, dtype: torch.dtype | None) -> nn.Module:
    files, module = network.files, network.module
    tensors = convert(network.table, files.read(), module.state_dict(), where=files.where)
    if dtype is not None:
        tensors = {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}
    module.load_state_dict(tensors, assign=True)
    return module.eval()


def _scheduler(folder: Path) -> Any:
    path = folder / "scheduler_config.json"
    config = read_json(path)
    hub_config.check_scheduler(config, str(path))
    try:
        return schedulers.from_config(config)
    except (ValueError, TypeError) as error:
        raise hub_config.ConfigError(f"{path}: {error}") from error


def load_front_end(root: Path) -> dict[str, Any]:
    """Tokenizer and front end, under the hub's names.

    Raises ConfigError or CheckpointError if they are broken, or do not fit the text encoder beside them.
    """
    folders = (root / "tokenizer", root / "feature_extractor")
    return _front_end(root / "text_encoder" / "config.json", *folders)


def _front_end(config: Path, tokenizer_folder: Path, extractor_folder: Path) -> dict[str, Any]:
    clap = clap_facts(read_json(config), str(config))
    path = tokenizer_folder / "tokenizer_config.json"
    mel_bins = clap["audio"]["num_mel_bins"]
    hub_config.check_front_end(read_json(path), "tokenizer_class", mel_bins, str(path))
    tokenizer = Tokenizer.load(tokenizer_folder)
    if len(tokenizer) > clap["text"]["vocab_size"]:
        raise CheckpointError(
            f"{tokenizer_folder}: {len(tokenizer)} tokens, but {config} has embeddings for "
            f"{clap['text']['vocab_size']}"
        )
    return {"tokenizer": tokenizer, "feature_extractor": load_feature_extractor(extractor_folder, mel_bins)}


def load_feature_extractor(folder: Path, mel_bins: int) -> FrontEnd:
    """The front end of CLAP's audio side, for a tower of so many mel bins.

    Raises ConfigError or CheckpointError.
    """
    path = folder / "preprocessor_config.json"
    facts = hub_config.front_end_from_hub(read_json(path), mel_bins, str(path))
    return FrontEnd.from_facts(facts)


def load_clap(
    id_or_folder: str | os.PathLike[str], *, torch_dtype: torch.dtype | None = torch.float32
) -> CLAP:
    """The CLAP of a checkpoint that may lack the other parts, or of a folder that holds a ClapModel alone.

    Such a folder has config, weights, tokenizer and preprocessor side by side, as transformers saves them.
    Raises as `load_components` does.
    """
    root = resolve(id_or_folder)
    alone = (root / "config.json").is_file()
    network, tokenizer, extractor = (
        root if alone else root / part for part in ("text_encoder", "tokenizer", "feature_extractor")
    )
    try:
        small = _front_end(network / "config.json", tokenizer, extractor)
        model = _load(_checked(network, "text_encoder", None, None), torch_dtype)
    except OSError as error:
        raise CheckpointError(f"CLAP of {os.fspath(id_or_folder)!r} cannot be read: {error}") from error
    assert isinstance(model, ClapModel)
    return CLAP(model, small["tokenizer"], small["feature_extractor"])


def load_network(
    id_or_folder: str | os.PathLike[str], component: str, *, torch_dtype: torch.dtype | None = torch.float32
) -> Any:
    """One of "unet", "vae", "vocoder" and "text_encoder", in evaluation mode, from a checkpoint that may lack
    the others.

    Raises as `load_components` does.
    """
    root = resolve(id_or_folder)
    try:
        checked = _checked(root / component, component, None, None)
        return _load(checked, torch_dtype)
    except OSError as error:
        raise CheckpointError(
            f"{component} of {os.fspath(id_or_folder)!r} cannot be read: {error}"
        ) from error


def load_scheduler(id_or_folder: str | os.PathLike[str]) -> Any:
    """The scheduler of a checkpoint. Raises as `load_components` does."""
    return _scheduler(resolve(id_or_folder) / "scheduler")


def save_network(folder: str | os.PathLike[str], component: str, module: Any) -> None:
    """Write one network of the hub's layout (its config and weights) into a checkpoint's folder.

    Raises CheckpointError if it cannot be written, or a weight is not finite; the folder is then as it was.
    """
    with folder_in_one_piece(Path(folder)) as root:
        _write_network(root / component, component, module)


def save_components(folder: str | os.PathLike[str], components: Mapping[str, Any]) -> None:
    """Write the hub's layout: a folder that this package, Diffusers 0.33.1 and the hub can read.

    Raises CheckpointError if it cannot be written, or a weight is not finite; the folder is then as it was.
    """
    scheduler = dict(components["scheduler"].config)
    with folder_in_one_piece(Path(folder)) as root:
        for name in NETWORKS:
            _write_network(root / name, name, components[name])
        components["tokenizer"].save_pretrained(root / "tokenizer")
        components["feature_extractor"].save_pretrained(root / "feature_extractor")
        write_json(root / "scheduler" / "scheduler_config.json", scheduler)
        write_json(root / "model_index.json", model_index(scheduler["_class_name"]))


def _write_network(folder: Path, component: str, module: Any) -> None:
    to_hub: dict[str, Callable[[Any], dict[str, Any]]] = {
        "unet": lambda config: hub_config.unet_to_hub(asdict(config)),
        "vae": lambda config: hub_config.vae_to_hub(asdict(config)),
        "vocoder": lambda config: hub_config.vocoder_to_hub(asdict(config)),
        "text_encoder": lambda config: clap_to_hub(config.facts()),
    }
    config = to_hub[component](module.config)
    _, table = empty_network(component, config, str(folder))
    write_json(folder / "config.json", config)
    write_tensors(folder / f"{STEMS[component]}.safetensors", invert(table, module.state_dict()))


def model_index(scheduler: str) -> dict[str, Any]:
    """The model_index.json of a folder whose scheduler is that class of Diffusers."""
    return {
        "_class_name": "MusicLDMPipeline",
        "_diffusers_version": "0.33.1",
        "feature_extractor": ["transformers", "ClapFeatureExtractor"],
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "ClapModel"],
        "tokenizer": ["transformers", "RobertaTokenizerFast"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "vocoder": ["transformers", "SpeechT5HifiGan"],
    }
