"""CLAP: prompts and clips in one space, the conditions of MusicLDM.

`embedding.CLAP` puts the parts together: `tokenizer` and the `text` tower for prompts, `front_end` and the
`audio` tower for clips, both towers in `model`.
"""

from .audio import AudioTowerConfig
from .embedding import CLAP
from .front_end import FrontEnd
from .model import ClapConfig, ClapModel
from .text import TextTower, TextTowerConfig
from .tokenizer import Tokenizer

__all__ = [
    "CLAP",
    "AudioTowerConfig",
    "ClapConfig",
    "ClapModel",
    "FrontEnd",
    "TextTower",
    "TextTowerConfig",
    "Tokenizer",
]
