"""Music in, music out: short functions over `sampling.iterate`. See README.md in this folder."""

from .continuation import extend
from .inpainting import inpaint
from .long_form import Form, compose
from .regions import Region
from .reprompting import reprompt
from .strength import audio_to_audio, vary
from .timeline import Timeline

__all__ = [
    "Form",
    "Region",
    "Timeline",
    "audio_to_audio",
    "compose",
    "extend",
    "inpaint",
    "reprompt",
    "vary",
]
