"""A hub id or a folder in the hub's layout <-> modules. The only file that touches weights on disk.

Strict in both directions: every tensor of a file is used or ignored for a reason that has a name, every
parameter is filled, every value is finite, every key of a config is understood. Nothing is unpickled but
plain tensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from weights_convert import diffusers_layout, hub_config
from weights_convert.mapping import Table, convert, invert

from . import schedulers
from .clap import build_model, load_feature_extractor, load_tokenizer
from .unet import UNet, UNetConfig
from .vae import VAE, VAEConfig
from .vocoder import HiFiGAN, VocoderConfig

__all__ = ["CheckpointError", "Heads", "load_components", "read_tensors", "resolve", "save_components"]

Heads = Literal["as-trained"] | tuple[int, ...] | None

TRAINED_HEAD_WIDTH = 32  # channels per head in the authors' U-Net: 8, 12, 20 heads at widths 256, 384, 640

_UNET = "diffusion_pytorch_model"  # file stems: Diffusers' models, then transformers'
_MODEL = "model"


class CheckpointError(ValueError):
    """A checkpoint that cannot be read as it is; the message says which file, and what to do."""


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
    does not describe or fit a MusicLDM.
    """
    folder = resolve(
        id_or_folder,
        revision=revision,
        variant=variant,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    index = folder / "model_index.json"
    missing = sorted(
        {"unet", "vae", "vocoder", "text_encoder", "tokenizer", "feature_extractor", "scheduler"}
        - set(read_json(index))
    )
    if missing:
        raise CheckpointError(f"{index} names no {', '.join(missing)}: this is not a MusicLDM pipeline")
    text_weights = _weights_file(folder / "text_encoder", _MODEL, variant)
    text_tensors = {
        name: tensor
        for name, tensor in read_tensors(text_weights).items()
        if not diffusers_layout.CLAP.why_ignored(name)
    }
    text_encoder = build_model(folder / "text_encoder", text_tensors, str(text_weights))
    del text_tensors
    return {
        "vae": _load_vae(folder / "vae", variant, torch_dtype),
        "text_encoder": text_encoder if torch_dtype is None else text_encoder.to(torch_dtype),
        "tokenizer": load_tokenizer(folder / "tokenizer"),
        "feature_extractor": load_feature_extractor(folder / "feature_extractor"),
        "unet": _load_unet(folder / "unet", variant, torch_dtype, heads),
        "scheduler": schedulers.from_config(read_json(folder / "scheduler" / "scheduler_config.json")),
        "vocoder": _load_vocoder(folder / "vocoder", variant, torch_dtype),
    }


def resolve(
    id_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Path:
    """The local folder of a checkpoint, downloaded first if it is a hub id.

    Raises CheckpointError if there is no such folder, or the download fails.
    """
    folder = Path(id_or_folder)
    if folder.is_dir():
        return folder
    name = os.fspath(id_or_folder)
    if folder.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        what = "is a file" if folder.exists() else "does not exist"
        raise CheckpointError(
            f"checkpoint {name!r} {what}; expected a folder with a model_index.json, or a hub id like "
            "'ucsd-reach/musicldm'"
        )
    suffix = f".{variant}" if variant else ""
    configs = ["*.json", "*/*.json", "*/*.txt"]
    try:
        found = _download(
            name, [*configs, f"*/*model{suffix}.safetensors"], revision, cache_dir, local_files_only
        )
        if not list(found.glob("unet/*.safetensors")):
            found = _download(
                name, [*configs, f"*/*model{suffix}.bin"], revision, cache_dir, local_files_only
            )
    except Exception as error:
        raise CheckpointError(
            f"could not get {name!r} from the hub ({type(error).__name__}: {error}). Without a network, "
            "copy the "
            "checkpoint's folder here from a machine that has it, and give its path instead of the id"
        ) from error
    return found


def _download(
    repo: str,
    patterns: list[str],
    revision: str | None,
    cache_dir: str | os.PathLike[str] | None,
    local: bool,
) -> Path:
    return Path(
        snapshot_download(
            repo, revision=revision, cache_dir=cache_dir, local_files_only=local, allow_patterns=patterns
        )
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises CheckpointError if it is missing, not JSON, or not an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.name} is missing: looked for {path}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors file, or of a .bin that holds plain tensors only.

    float64 becomes float32 (old transformers saved CLAP's logit scales so).
    Raises CheckpointError if the file is broken, holds anything but tensors, or a value is not finite.
    """
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is broken ({type(error).__name__}: {error}); it may be cut short: fetch it again"
        ) from error
    except Exception as error:  # the unpickler's own error class, raised for anything that is not a tensor
        raise CheckpointError(f"{path} holds more than tensors, and was not run: {error}") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{path}: expected a mapping from names to tensors")
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(f"{path}: NaN or infinity in {len(broken)} tensors, among them {broken[:5]}")
    return {name: t.float() if t.dtype == torch.float64 else t for name, t in tensors.items()}


def _weights_file(folder: Path, stem: str, variant: str | None) -> Path:
    suffix = f".{variant}" if variant else ""
    names = [f"{stem}{suffix}.safetensors", f"{stem}{suffix}.bin", f"pytorch_model{suffix}.bin"]
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        held = (
            sorted(path.name for path in folder.iterdir()) if folder.is_dir() else "nothing: no such folder"
        )
        raise CheckpointError(
            f"no weights of {folder.name}: looked in {folder} for {', '.join(names)}; it holds {held}"
        )
    return found


def _fill(module: nn.Module, table: Table, path: Path, dtype: torch.dtype | None) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    tensors = convert(table, read_tensors(path), shapes, where=str(path))
    if dtype is not None:
        tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    module.load_state_dict(tensors, assign=True)
    module.eval()


def _load_unet(folder: Path, variant: str | None, dtype: torch.dtype | None, heads: Heads) -> UNet:
    path = folder / "config.json"
    config = UNetConfig(**hub_config.unet_from_hub(read_json(path), str(path)))
    if heads is not None:
        config = replace(config, heads=_trained_heads(config) if heads == "as-trained" else heads)
    with torch.device("meta"):
        unet = UNet(config)
    _fill(unet, diffusers_layout.UNET, _weights_file(folder, _UNET, variant), dtype)
    return unet


def _trained_heads(config: UNetConfig) -> tuple[int, ...]:
    widths = [width for width, heads in zip(config.block_out_channels, config.heads, strict=True) if heads]
    if any(width % TRAINED_HEAD_WIDTH for width in widths):
        raise ValueError(
            f'heads="as-trained" means {TRAINED_HEAD_WIDTH} channels per head, and this U-Net has widths '
            f"{widths}; "
            "give the counts themselves, one per level"
        )
    return tuple(
        width // TRAINED_HEAD_WIDTH if heads else 0
        for width, heads in zip(config.block_out_channels, config.heads, strict=True)
    )


def _load_vae(folder: Path, variant: str | None, dtype: torch.dtype | None) -> VAE:
    path = folder / "config.json"
    config = VAEConfig(**hub_config.vae_from_hub(read_json(path), str(path)))
    with torch.device("meta"):
        vae = VAE(config)
    _fill(vae, diffusers_layout.VAE, _weights_file(folder, _UNET, variant), dtype)
    return vae


def _load_vocoder(folder: Path, variant: str | None, dtype: torch.dtype | None) -> HiFiGAN:
    path = folder / "config.json"
    config = VocoderConfig(**hub_config.vocoder_from_hub(read_json(path), str(path)))
    with torch.device("meta"):
        vocoder = HiFiGAN(config)
    _fill(vocoder, _vocoder_table(config), _weights_file(folder, _MODEL, variant), dtype)
    return vocoder


def _vocoder_table(config: VocoderConfig) -> Table:
    return diffusers_layout.vocoder(len(config.upsample_rates), len(config.resblock_kernel_sizes))


def save_components(folder: str | os.PathLike[str], components: Mapping[str, Any]) -> None:
    """Write the hub's layout: a folder that this package, Diffusers 0.33.1 and the hub can read.

    Each file appears whole or not at all.
    """
    root = Path(folder)
    unet, vae, vocoder = components["unet"], components["vae"], components["vocoder"]
    scheduler = components["scheduler"].config
    _save(
        root / "unet",
        _UNET,
        hub_config.unet_to_hub(asdict(unet.config)),
        invert(diffusers_layout.UNET, unet.state_dict()),
    )
    _save(
        root / "vae",
        _UNET,
        hub_config.vae_to_hub(asdict(vae.config)),
        invert(diffusers_layout.VAE, vae.state_dict()),
    )
    _save(
        root / "vocoder",
        _MODEL,
        hub_config.vocoder_to_hub(asdict(vocoder.config)),
        invert(_vocoder_table(vocoder.config), vocoder.state_dict()),
    )
    text_encoder = components["text_encoder"]
    _save(
        root / "text_encoder",
        _MODEL,
        text_encoder.config.to_dict() | {"architectures": ["ClapModel"]},
        {
            k: v.contiguous()
            for k, v in text_encoder.state_dict().items()
            if not diffusers_layout.CLAP.why_ignored(k)
        },
    )
    components["tokenizer"].save_pretrained(root / "tokenizer")
    components["feature_extractor"].save_pretrained(root / "feature_extractor")
    _write_json(root / "scheduler" / "scheduler_config.json", scheduler)
    _write_json(root / "model_index.json", {
        "_class_name": "MusicLDMPipeline",
        "_diffusers_version": "0.33.1",
        "feature_extractor": ["transformers", "ClapFeatureExtractor"],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "text_encoder": ["transformers", "ClapModel"],
        "tokenizer": ["transformers", "RobertaTokenizerFast"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "vocoder": ["transformers", "SpeechT5HifiGan"],
    })  # fmt: skip


def _save(folder: Path, stem: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    _write_json(folder / "config.json", config)
    partial = folder / f"{stem}.safetensors.partial"
    save_file({name: tensor.cpu() for name, tensor in tensors.items()}, partial, metadata={"format": "pt"})
    partial.replace(folder / f"{stem}.safetensors")


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(path)
