"""What a page takes for granted: music, prompts, files of somebody's own, all of it small."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from clicks import click_track
from evaluation_toys import published_names
from originals import TINY_ORIGINAL, unpack

from musicldm import audio
from musicldm.data.annotations import Beats, read_annotation, write_annotation
from musicldm.data.folders import tracks_from_folder
from musicldm.data.manifest import read_manifest, write_manifest
from musicldm.evaluation.panns import Cnn14
from musicldm.evaluation.vggish import VggishNetwork

RATE = 16000
TRACKS = 20
EDITING = Path(__file__).parents[2] / "musicldm" / "editing" / "README.md"


def tone(path: Path, seconds: float, seed: int = 0) -> None:
    """A falling chord and some noise."""
    rng, time = np.random.default_rng(seed), np.arange(round(RATE * seconds)) / RATE
    chord = sum(np.sin(2 * np.pi * f * time) for f in rng.uniform(100, 2000, 3))
    wave = 0.1 * chord + 0.01 * rng.standard_normal(len(time))
    audio.write(path, wave.astype(np.float32), RATE)


def music(folder: Path, name: str = "my-music") -> None:
    """Click tracks of one tempo over chords, captions beside them; beats/ has their annotations."""
    (folder / name).mkdir()
    (folder / "beats").mkdir(exist_ok=True)
    for k in range(TRACKS):
        path = folder / name / f"track {k:02d}.wav"
        track = click_track(path, 120, seconds=6)
        wave = audio.read(path)[0]
        tone(path, 6, k)
        audio.write(path, 0.5 * wave + audio.read(path)[0], RATE)
        path.with_suffix(".txt").write_text(f"clicks and chord number {k}\n")
        write_annotation(folder / "beats" / f"{path.stem}.beats", Beats(track.beats, track.downbeats))


def my_music(folder: Path) -> None:
    music(folder, "my_music")


def catalog(folder: Path) -> None:
    """theirs.csv, a list of music from elsewhere."""
    rows = [f"my_music/track {k:02d}.wav,a clip number {k}\n" for k in range(TRACKS)]
    (folder / "theirs.csv").write_text("file,text\n" + "".join(rows))


def manifest(folder: Path) -> None:
    """music.jsonl, with a test split."""
    write_manifest(folder / "music.jsonl", tracks_from_folder(folder / "my-music", test=0.4).tracks)


def own_clip(*names: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name in names:
            tone(folder / name, 5)

    return make


def prompts(folder: Path) -> None:
    (folder / "prompts.txt").write_text("a waltz\ntechno, 130 bpm\nslow piano\n")
    (folder / "musiccaps.csv").write_text('ytid,caption\nabc,"a flute, alone"\ndef,a drum loop\n')
    (folder / "prompts.jsonl").write_text(
        '{"prompt": "a harp", "seed": 3}\n{"prompt": "a march", "seconds": 1.0}\n'
    )


def timeline(folder: Path) -> None:
    """song.txt as the page on editing shows it, three times as fast."""
    shown = re.search(
        r"(?:^    .*\n)+", EDITING.read_text().partition("A timeline is a text file")[2], re.MULTILINE
    )
    assert shown is not None
    text = "".join(line[4:] for line in shown[0].splitlines(keepends=True))
    text, cues = re.subn(
        r"^(\d):(\d0)", lambda cue: str((60 * int(cue[1]) + int(cue[2])) / 3), text, flags=re.MULTILINE
    )
    assert cues == 2
    (folder / "song.txt").write_text(text)


def release(folder: Path) -> None:
    """The authors' checkpoint, tiny."""
    unpack("musicldm-ckpt.ckpt", folder)
    for name in ("musicldm.yaml", "config_16k_64.json"):
        shutil.copy(TINY_ORIGINAL / name, folder)
    shutil.copytree(TINY_ORIGINAL / "tokenizer", folder / "tokenizer")


def embeddings(folder: Path) -> None:
    """Arrays of 12 numbers a clip."""
    rng = np.random.default_rng(0)
    for name, rows in (("generated", 30), ("reference", 40), ("training", 50)):
        np.save(folder / f"{name}.npy", rng.standard_normal((rows, 12)))


def taggers(folder: Path) -> None:
    """Files of PANNs and VGGish with random weights."""
    torch.save({"model": published_names(Cnn14())}, folder / "Cnn14_16k_mAP=0.438.pth")
    torch.save(VggishNetwork().state_dict(), folder / "vggish.pth")


def beaten(folder: Path) -> None:
    """music.beats.jsonl: the same with beats."""
    tracks = read_manifest(folder / "music.jsonl")
    found = [read_annotation(folder / "beats" / f"{track.path.stem}.beats") for track in tracks]
    with_beats = [
        replace(t, beats=f.beats, downbeats=f.downbeats) for t, f in zip(tracks, found, strict=True)
    ]
    write_manifest(folder / "music.beats.jsonl", with_beats)


def generated(folder: Path) -> None:
    """clips/, of names that are in music.jsonl; like clips of the corpus, they may begin in silence."""
    (folder / "clips").mkdir()
    tracks = [json.loads(line) for line in (folder / "music.jsonl").read_text().splitlines()]
    for k, track in enumerate(t for t in tracks if t["split"] == "test"):
        path = folder / "clips" / Path(track["path"]).name
        tone(path, 2, 100 + k)
        wave = audio.read(path)[0]
        wave[:2000] = 0
        audio.write(path, wave, RATE)


INPUTS: dict[str, tuple[Callable[[Path], None], ...]] = {
    "README.md": (prompts, own_clip("mine.wav"), timeline, music, release),
    "benchmarks/README.md": (),
    "benchmarks/results/mixup_study.md": (),
    "musicldm/demo/README.md": (),
    "musicldm/editing/README.md": (own_clip("in.wav"), timeline),
    "musicldm/evaluation/README.md": (embeddings, music, manifest, generated, taggers),
    "musicldm/evaluation/paper.md": (music, taggers),
    "musicldm/data/README.md": (my_music, catalog),
    "musicldm/training/PARTS.md": (music,),
    "musicldm/training/README.md": (music, manifest, beaten),
    "musicldm/corpus/README.md": (),
    "tests/goldens/README.md": (),
    "weights_convert/README.md": (),
}
