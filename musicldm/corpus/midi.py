"""A clip as a MIDI file, for fluidsynth or a sequencer. Needs mido (extra `train`)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from .clip import RUN_UP, SECONDS, Clip, Played
from .instruments import KITS
from .levels import balance

__all__ = ["START", "write_midi"]

TICKS = 960  # a beat
DRUM_CHANNEL = 9
START = RUN_UP + 0.25  # seconds of the MIDI file before the clip begins
END = SECONDS + 0.15  # seconds of the clip at which all sound is cut off: nobody hears what follows
RAMP = ((0.0, 45), (0.2, 60), (0.35, 80), (0.5, 105), (0.65, 127))  # a ducked beat: share, expression

Event = tuple[float, int, str, dict[str, int]]  # seconds, order, mido's message and its fields


def write_midi(clip: Clip, path: str | os.PathLike[str]) -> None:
    """Write the clip, one track a part, at its own tempo; the clip begins START seconds into the file.

    Raises ImportError saying what to install if mido is missing.
    """
    try:
        import mido
    except ImportError as error:
        raise ImportError("corpus: writing MIDI needs mido; pip install mido") from error
    tempo = round(60e6 / clip.facts.bpm)
    file = mido.MidiFile(ticks_per_beat=TICKS)
    volumes = balance(clip.parts)
    channels = [channel for channel in range(16) if channel != DRUM_CHANNEL]
    for number, (part, volume) in enumerate(zip(clip.parts, volumes, strict=True)):
        channel = DRUM_CHANNEL if part.instrument is None else channels[number]
        program = KITS[part.kit] if part.instrument is None else part.instrument.program
        track = mido.MidiTrack()
        file.tracks.append(track)
        if number == 0:
            track.append(mido.MetaMessage("set_tempo", tempo=tempo))
        track.append(mido.Message("program_change", channel=channel, program=program))
        for control, value in ((7, volume), (91, clip.wet), (93, 0)):
            track.append(mido.Message("control_change", channel=channel, control=control, value=value))
        now = 0
        for seconds, _, kind, fields in sorted(_events(part, clip), key=lambda event: event[:2]):
            tick = round((START + seconds) * 1e6 / tempo * TICKS)
            track.append(mido.Message(kind, channel=channel, time=max(tick - now, 0), **fields))
            now = max(tick, now)
    file.save(Path(path))


def _events(part: Played, clip: Clip) -> Iterator[Event]:
    """Notes and ducking; a key is released before it is struck again."""
    for note in part.notes:
        yield note.start, 1, "note_on", {"note": note.pitch, "velocity": note.velocity}
        yield min(note.start + note.length, END), 0, "note_off", {"note": note.pitch}
    yield END, 2, "control_change", {"control": 120, "value": 0}
    if part.pump:
        beat = 60 / clip.facts.bpm
        first = clip.beats[0] - beat * math.ceil(RUN_UP / beat)
        for number in range(math.ceil((SECONDS + RUN_UP) / beat) + 1):
            for share, value in RAMP:
                at = first + (number + share) * beat
                if -START <= at < END:
                    yield at, 0, "control_change", {"control": 11, "value": value}
