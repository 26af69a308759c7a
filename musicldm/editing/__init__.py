"""Music in, music out: short functions over `sampling.iterate`. See README.md in this folder."""

from .continuation import extend
from .inpainting import inpaint
from .regions import Region
from .strength import audio_to_audio, vary

__all__ = ["Region", "audio_to_audio", "extend", "inpaint", "vary"]
