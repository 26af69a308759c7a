"""In the place of `musicldm corpus -o FOLDER --clips N` where fluidsynth is not installed: tones, and their truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from musicldm import audio

RATE, SECONDS, BPM = 16000, 10.24, 120
SPLITS = {7: "valid", 8: "valid", 9: "test", 10: "test"}  # of every 18 clips


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, required=True)
    options = parser.parse_args()
    (options.folder / "audio").mkdir(parents=True)
    rows, time = [], np.arange(round(RATE * SECONDS)) / RATE
    beats = [round(0.1 + 60 / BPM * k, 4) for k in range(20)]
    for k in range(options.clips):
        rng = np.random.default_rng(k)
        chord = sum(np.sin(2 * np.pi * f * time) for f in rng.uniform(100, 2000, 3))
        wave = 0.1 * chord + 0.01 * rng.standard_normal(len(time))
        audio.write(options.folder / "audio" / f"{k:05d}.flac", wave.astype(np.float32), RATE)
        rows.append({"path": f"audio/{k:05d}.flac", "caption": [f"chord number {k}", f"a tone, {BPM} bpm"],
                     "beats": beats, "downbeats": beats[::4], "split": SPLITS.get(k % 18, "train")})  # fmt: skip
    (options.folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
