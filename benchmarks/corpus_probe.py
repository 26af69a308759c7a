"""Whether a corpus is what its facts say: tempo, beats, styles, leads and drums read back from the sound.

    python benchmarks/corpus_probe.py DIR [--limit N] [--least 8]

Prints the tables and writes results/corpus_probe.json. Needs librosa and scikit-learn. Tempo and beats: librosa's beat tracker and onset envelope. Style, lead, drums: a
logistic regression on log-mel statistics and a tempogram, five folds, compositions kept whole (a degraded copy is
never in another fold than its original; copies are left out of the probes).
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import librosa
import numpy as np
from harness import save
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from musicldm import audio

CLOSE = 0.06  # of the tempo
FOLDS = (1.0, 0.5, 2.0, 1 / 3, 3.0, 2 / 3, 1.5)  # the first three are octaves; the others are counted apart


def main() -> None:
    """Read the clips, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, help="first clips only")
    parser.add_argument("--least", type=int, default=8, help="clips that a lead needs to be asked about")
    options = parser.parse_args()
    facts = lines(options.folder / "facts.jsonl")[: options.limit]
    beats = {row["path"]: row["beats"] for row in lines(options.folder / "manifest.jsonl")}
    good = [index for index, fact in enumerate(facts) if fact["quality"] == "good"]
    frequent = Counter(facts[index]["lead"] for index in good)
    led = [
        index for index in good if facts[index]["lead"] and frequent[facts[index]["lead"]] >= options.least
    ]
    if len({facts[index]["lead"] for index in led}) < 2:
        parser.error(
            f"fewer than two lead instruments have {options.least} clips of these {len(facts)}; "
            "take more clips, or a smaller --least"
        )
    features, rows = [], []
    for fact in facts:
        wave, rate = audio.read(options.folder / fact["path"])
        envelope = librosa.onset.onset_strength(y=wave, sr=rate, hop_length=128)
        read = float(
            np.atleast_1d(librosa.beat.beat_track(onset_envelope=envelope, sr=rate, hop_length=128)[0])[0]
        )
        rows.append({**fact, "read": read, "on_beat": on_beat(envelope, beats[fact["path"]], rate / 128)})
        rows[-1]["quiet_start"] = float(np.argmax(np.abs(wave) > 0.02)) / rate
        features.append(statistics(wave, rate, envelope))
    tempi = tempo_table(rows)
    print_tempo(tempi)
    asked = {"style": good, "drums": good, "quality": list(range(len(rows))), "lead": led}
    probes = [probe(name, rows, features, chosen) for name, chosen in asked.items()]
    late = max(row["quiet_start"] for row in rows)
    print(f"\nlatest start of sound: {late:.2f} s")
    tempi_rows = [{"what": "tempo", "of": name, **row} for name, row in tempi.items()]
    save("corpus_probe", tempi_rows + probes, clips=len(rows), latest_start_s=late)


def lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def on_beat(envelope: np.ndarray, beats: list[float], frames: float) -> float:
    """Onset strength within 40 ms of the beats over that everywhere: 1 is no relation."""
    near = np.zeros(len(envelope), bool)
    for beat in beats:
        near[max(0, round((beat - 0.04) * frames)) : round((beat + 0.06) * frames)] = True
    return float(envelope[near].mean() / envelope.mean())


def statistics(wave: np.ndarray, rate: int, envelope: np.ndarray) -> np.ndarray:
    """Means, spreads and changes of 64 log-mel bands; 13 percentiles of chroma spread; a tempogram."""
    mel = np.log(
        librosa.feature.melspectrogram(y=wave, sr=rate, n_fft=1024, hop_length=160, n_mels=64) + 1e-6
    )
    change = np.abs(np.diff(mel, axis=1))
    tempogram = librosa.feature.tempogram(onset_envelope=envelope, sr=rate, hop_length=128, win_length=512)
    rhythm = tempogram.mean(axis=1)[8:500].reshape(-1, 6).mean(axis=1)
    return np.concatenate(
        [mel.mean(axis=1), mel.std(axis=1), change.mean(axis=1), np.quantile(mel, 0.95, axis=1), rhythm]
    )


def tempo_table(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By style: shares of clips whose tempo was read within 6 %: as it is, octave folded, folded in any way."""
    groups = defaultdict(list)
    for row in rows:
        if row["quality"] == "good":
            groups[row["style"]].append(row)
            groups["all with drums" if row["drums"] else "all without"].append(row)
    return {
        name: {
            "clips": len(group),
            "exact": share(group, FOLDS[:1]),
            "octave": share(group, FOLDS[:3]),
            "any": share(group, FOLDS),
            "on_beat": float(np.median([row["on_beat"] for row in group])),
        }
        for name, group in groups.items()
    }


def share(group: list[dict[str, Any]], folds: tuple[float, ...]) -> float:
    """Of the group, whose tempo times one of the folds is the true one."""
    hit = [any(abs(row["read"] * fold / row["bpm"] - 1) <= CLOSE for fold in folds) for row in group]
    return sum(hit) / len(hit)


def print_tempo(table: dict[str, dict[str, float]]) -> None:
    """The table as Markdown."""
    print("| style | clips | tempo | octave folded | any fold | onsets on beats |\n|---|---|---|---|---|---|")
    for name, row in sorted(table.items()):
        cells = " | ".join(f"{row[key]:.2f}" for key in ("exact", "octave", "any", "on_beat"))
        print(f"| {name} | {row['clips']} | {cells} |")


def probe(
    name: str, rows: list[dict[str, Any]], features: list[np.ndarray], chosen: list[int]
) -> dict[str, Any]:
    """Cross-validated accuracy, chance, and the confusion of what is confused most."""
    truth = np.array([str(rows[index][name]) for index in chosen])
    groups = [rows[index]["original"] for index in chosen]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=2000))
    found = cross_val_predict(
        model, np.array([features[i] for i in chosen]), truth, groups=groups, cv=GroupKFold(5)
    )
    score = float((found == truth).mean())
    chance = max(Counter(truth).values()) / len(truth)
    print(
        f"\n{name}: {score:.3f} of {len(truth)} clips, {len(set(truth))} classes, most frequent {chance:.3f}"
    )
    table = {}
    for label in sorted(set(truth)):
        taken = Counter(found[truth == label])
        right = taken.pop(label, 0)
        table[label] = {
            "clips": int((truth == label).sum()),
            "right": right,
            "taken for": dict(taken.most_common(3)),
        }
        wrong = ", ".join(f"{other} {count}" for other, count in taken.most_common(3))
        print(f"  {label}: {right}/{table[label]['clips']}{'; ' + wrong if wrong else ''}")
    return {"what": name, "accuracy": score, "most frequent": chance, "classes": table}


if __name__ == "__main__":
    main()
