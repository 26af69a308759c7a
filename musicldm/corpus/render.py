"""A clip's score -> its sound: fluidsynth with a General MIDI soundfont, or our own chip for chiptune."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from musicldm import audio

from .chip import chip_sound
from .clip import SECONDS, Clip
from .midi import START, write_midi

__all__ = ["RATE", "Synth", "find_synth", "render"]

RATE = 16000
SAMPLES = round(SECONDS * RATE)
SYNTH_RATE = 32000  # what folds over at this rate lies above 10 kHz, and is gone at 16 kHz
PEAKS = {"soft": 0.5, "medium": 0.7, "loud": 0.9}
FADE = 160  # samples at each end, so that no clip begins or ends with a click
SOUNDFONTS = (  # where Debian, Fedora and Arch put it
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",
    "/usr/share/soundfonts/FluidR3_GM.sf2",
)
INSTALL = (
    "on Debian or Ubuntu: apt-get install fluidsynth fluid-soundfont-gm (a soundfont under the MIT licence)"
)

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Synth:
    """What renders: the program and the soundfont."""

    program: str
    soundfont: str

    def version(self) -> str:
        """What the program calls itself."""
        shown = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True)
        return shown.stdout.splitlines()[0].strip()


def find_synth(soundfont: str | None = None) -> Synth:
    """fluidsynth on the path, and the soundfont given or found. Raises OSError saying what to install."""
    program = shutil.which("fluidsynth")
    if program is None:
        raise OSError(f"corpus: fluidsynth is not installed, and it plays the clips; {INSTALL}")
    choices = [soundfont] if soundfont else list(SOUNDFONTS)
    for path in choices:
        if Path(path).is_file():
            return Synth(program, path)
    raise OSError(f"corpus: no soundfont at {', '.join(choices)}; name one with --soundfont, or {INSTALL}")


def render(clip: Clip, synth: Synth) -> Samples:
    """-> (s,) mono at 16 kHz, s = 163,840; its peak is by its dynamics (0.5, 0.7, 0.9).

    Raises RuntimeError with fluidsynth's own words if it fails, and ValueError for silence.
    """
    if any(part.instrument and part.instrument.name == "pulse lead" for part in clip.parts):
        wave = chip_sound(clip, SAMPLES, RATE)
    else:
        wave = _fluidsynth(clip, synth)
    peak = float(np.abs(wave).max())
    if peak < 1e-3:
        raise ValueError(f"corpus: a clip of {clip.facts.style} came out silent (peak {peak:.2g})")
    wave = wave * (PEAKS[clip.facts.dynamics] / peak)
    ramp = np.linspace(0, 1, FADE, dtype=np.float32)
    wave[:FADE] *= ramp
    wave[-FADE:] *= ramp[::-1]
    return wave.astype(np.float32)


def _fluidsynth(clip: Clip, synth: Synth) -> Samples:
    with tempfile.TemporaryDirectory(prefix="musicldm-corpus-") as folder:
        score, sound = Path(folder, "clip.mid"), Path(folder, "clip.wav")
        write_midi(clip, score)
        play(score, sound, synth)
        wave, rate = audio.read(sound)
    first = round(START * rate)
    wave = audio.resample(wave[first : first + round((SECONDS + 0.1) * rate)], rate, RATE)
    return np.pad(wave, (0, max(0, SAMPLES - len(wave))))[:SAMPLES]


def play(score: Path, sound: Path, synth: Synth) -> None:
    """Render a MIDI file into a stereo float WAV. Only the samples that the file uses are loaded."""
    settings = (
        "synth.dynamic-sample-loading=1",
        "synth.chorus.active=0",
        "synth.reverb.room-size=0.45",
        "synth.reverb.level=0.5",
        "synth.gain=0.3",
        "audio.file.format=float",
    )
    command = [synth.program, "-n", "-i", "-q", "-r", str(SYNTH_RATE), "-F", str(sound), "-T", "wav"]
    for setting in settings:
        command += ["-o", setting]
    done = subprocess.run(
        [*command, synth.soundfont, str(score)], capture_output=True, text=True, check=False
    )
    if done.returncode or not sound.is_file():
        raise RuntimeError(f"corpus: fluidsynth failed ({done.returncode}): {done.stderr.strip()[-500:]}")
