"""MusicLDM: text to music by latent diffusion, from scratch in PyTorch.

Names are loaded when they are first used: `import musicldm` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .blending import blend as blend
    from .clap import CLAP as CLAP
    from .pipeline import MusicLDMOutput as MusicLDMOutput
    from .pipeline import MusicLDMPipeline as MusicLDMPipeline
    from .stages import Request as Request
    from .unet import UNet as UNet
    from .unet import UNetConfig as UNetConfig
    from .vae import VAE as VAE
    from .vae import VAEConfig as VAEConfig
    from .vocoder import HiFiGAN as HiFiGAN
    from .vocoder import VocoderConfig as VocoderConfig

__version__ = "0.1.0"

_HOME = {
    "CLAP": "clap",
    "HiFiGAN": "vocoder",
    "MusicLDMOutput": "pipeline",
    "MusicLDMPipeline": "pipeline",
    "Request": "stages",
    "UNet": "unet",
    "UNetConfig": "unet",
    "VAE": "vae",
    "VAEConfig": "vae",
    "VocoderConfig": "vocoder",
    "blend": "blending",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
