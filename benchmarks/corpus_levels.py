"""How loud the soundfont has each program: the table in musicldm/corpus/levels.py.

    python benchmarks/corpus_levels.py [SOUNDFONT] [--only N]

Each instrument plays half-second notes at velocity 90 over the middle of its register; the figure is the
B-weighted RMS in dB of what is louder than -30 dB of its loudest frame. Kits play a plain groove. Prints the tables
and writes results/corpus_levels.json.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import mido
import numpy as np
from harness import save

from musicldm import audio
from musicldm.corpus.instruments import INSTRUMENTS, KITS
from musicldm.corpus.render import Synth, find_synth, play


def main() -> None:
    """Measure every instrument and kit, or the first few."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("soundfont", nargs="?", help="default: the one that `musicldm corpus` finds")
    parser.add_argument("--only", type=int, metavar="N", help="instruments and kits; default: all")
    options = parser.parse_args()
    synth = find_synth(*[options.soundfont] if options.soundfont else [])
    tables: dict[str, dict[str, float]] = {"LOUDNESS": {}, "KIT_LOUDNESS": {}}
    for instrument in list(INSTRUMENTS.values())[: options.only]:
        low, high = instrument.low, instrument.high
        pitches = [round(low + (high - low) * (0.3 + 0.05 * step)) for step in range(9)]
        played = loudness(score(0, instrument.program, pitches), synth)
        tables["LOUDNESS"][instrument.name] = round(played, 1)
    for name, program in list(KITS.items())[: options.only]:
        played = loudness(score(9, program, [36, 42, 38, 42] * 4, ticks=240), synth)
        tables["KIT_LOUDNESS"][name] = round(played, 1)
    for table, rows in tables.items():
        print(f"{table} = {{")
        for name, level in rows.items():
            print(f'    "{name}": {level},')
        print("}")
    save(
        "corpus_levels",
        [{"table": t, "name": n, "db": db} for t, rows in tables.items() for n, db in rows.items()],
    )


def score(channel: int, program: int, pitches: list[int], ticks: int = 480) -> mido.MidiFile:
    """Notes one after another at 120 BPM."""
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack()
    file.tracks.append(track)
    track.append(mido.Message("program_change", channel=channel, program=program))
    track.append(mido.Message("control_change", channel=channel, control=7, value=100))
    for pitch in pitches:
        track.append(mido.Message("note_on", channel=channel, note=pitch, velocity=90, time=0))
        track.append(mido.Message("note_off", channel=channel, note=pitch, time=ticks))
    return file


def loudness(file: mido.MidiFile, synth: Synth) -> float:
    """B-weighted level in dB of full scale: of the standard curves the one that takes bass as music's level has it."""
    with tempfile.TemporaryDirectory() as folder:
        file.save(Path(folder, "a.mid"))
        play(Path(folder, "a.mid"), Path(folder, "a.wav"), synth)
        wave, rate = audio.read(Path(folder, "a.wav"))
    spectrum = np.fft.rfft(wave)
    f = np.maximum(np.fft.rfftfreq(len(wave), 1 / rate), 1.0)
    weight = 12194**2 * f**3 / ((f**2 + 20.6**2) * np.sqrt(f**2 + 158.5**2) * (f**2 + 12194**2))
    weighted = np.fft.irfft(spectrum * weight, len(wave))
    frames = weighted[: len(wave) // 1024 * 1024].reshape(-1, 1024)
    power = (frames**2).mean(axis=1)
    return float(10 * np.log10(power[power > power.max() * 1e-3].mean()))


if __name__ == "__main__":
    main()
