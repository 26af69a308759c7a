"""What the demo model can do, measured from outside: tempo, content, relevance, novelty, copy-synthesis.

    python benchmarks/demo_quality.py clips  MODEL WORK [--part K/N]  64 prompts x 3 seeds; with negative prompts, one
    python benchmarks/demo_quality.py judge  MODEL WORK --held-out DIR --train DIR [--song FILE ...]

DIR: corpora by `musicldm corpus`; the held-out one has another seed, so that neither the model nor the probes
have met it in training. Needs librosa and scikit-learn. Tempo: librosa's beat tracker. Probes: logistic
regressions on log-mel statistics and a tempogram (as in corpus_probe.py), trained on the held-out corpus alone;
their ceiling is their cross-validated score there, and their score on the same clips through the model's VAE and
vocoder is what a perfect U-Net could reach. Chance is each clip against the answer of another prompt. Writes
results/demo_quality.json and prints the tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch
from corpus_probe import CLOSE, FOLDS, lines, statistics
from harness import save
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from musicldm import MusicLDMPipeline, audio
from musicldm.corpus.prompts import Prompt, evaluation_prompts
from musicldm.evaluation.novelty import novelty
from musicldm.hub import usual_guidance
from musicldm.mel import log_mel

SEEDS = (0, 1, 2)
NEGATIVE_SEEDS = (0,)
NEGATIVES = ("low quality", "drums")  # each moves away from what a probe hears
THRESHOLDS = (0.90, 0.95)
RATE = 16000
SHUFFLES = 500  # of the prompts, for chance


def clip_of(work: Path, prompt: int, seed: int, negative: str = "") -> Path:
    """Where a clip lies."""
    return work / (negative.replace(" ", "-") or "plain") / f"{prompt:02d}-{seed}.flac"


def clips(options: argparse.Namespace) -> None:
    """Make all clips that are not there yet."""
    pipe = MusicLDMPipeline.from_pretrained(options.model)
    guidance = usual_guidance(options.model) if options.guidance is None else options.guidance
    prompts = evaluation_prompts()[: options.prompts]
    part, parts = (int(number) for number in options.part.split("/"))
    for negative in ("", *NEGATIVES):
        for k, asked in list(enumerate(prompts))[part - 1 :: parts]:
            if negative == "drums" and asked.drums is False:
                continue
            wanted = NEGATIVE_SEEDS if negative else SEEDS
            seeds = [seed for seed in wanted if not clip_of(options.work, k, seed, negative).exists()]
            if not seeds:
                continue
            waves = pipe(
                [asked.prompt] * len(seeds),
                audio_length_in_s=options.seconds,
                num_inference_steps=options.steps,
                guidance_scale=guidance,
                negative_prompt=negative or None,
                seed=[1000 * k + seed for seed in seeds],
            ).audios
            for seed, wave in zip(seeds, waves, strict=True):
                path = clip_of(options.work, k, seed, negative)
                path.parent.mkdir(parents=True, exist_ok=True)
                audio.write(path, wave, RATE)
        print(f"{negative or 'no negative prompt'}: done", flush=True)


class Heard:
    """What librosa and CLAP hear of files, kept in `work`, since listening takes longer than judging."""

    def __init__(self, work: Path, pipe: MusicLDMPipeline) -> None:
        self.work, self.pipe = work, pipe

    def features(self, paths: list[Path], name: str) -> tuple[np.ndarray, np.ndarray]:
        """-> (n, d) statistics, (n,) tempo in BPM."""

        def one(wave: np.ndarray) -> np.ndarray:
            envelope = librosa.onset.onset_strength(y=wave, sr=RATE, hop_length=128)
            tempo = librosa.beat.beat_track(onset_envelope=envelope, sr=RATE, hop_length=128)[0]
            return np.append(statistics(wave, RATE, envelope), float(np.atleast_1d(tempo)[0]))

        rows = self._kept(f"{name}.features", paths, lambda batch: [one(wave) for wave in batch])
        return rows[:, :-1], rows[:, -1]

    def embeddings(self, paths: list[Path], name: str) -> np.ndarray:
        """-> (n, 512) CLAP audio embeddings of unit norm."""

        def batch(waves: list[np.ndarray]) -> np.ndarray:
            return self.pipe.clap.embed_audio(np.stack(waves), RATE).double().numpy()

        return self._kept(f"{name}.clap", paths, batch)

    def _kept(
        self, name: str, paths: list[Path], make: Callable[[list[np.ndarray]], Iterable[np.ndarray]]
    ) -> np.ndarray:
        file = self.work / f"{name}.npz"
        if file.exists():
            kept = np.load(file, allow_pickle=False)
            if kept["paths"].tolist() == list(map(str, paths)):
                return np.asarray(kept["rows"])
        rows: list[np.ndarray] = []
        for start in range(0, len(paths), 16):
            rows += list(make([audio.read(path)[0] for path in paths[start : start + 16]]))
        np.savez(file, paths=[str(path) for path in paths], rows=np.array(rows))
        return np.array(rows)


def probe() -> Any:
    """The same for all questions."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=2000))


def content(
    what: str,
    features: np.ndarray,
    facts: list[dict[str, Any]],
    wanted: list[tuple[int, str]],
    made: np.ndarray,
    label: Callable[[dict[str, Any]], str | None],
    copied: np.ndarray,
) -> dict[str, Any]:
    """A probe's answer about generated clips beside chance, its ceiling on the corpus, and on copies of it.

    features, copied: (n, d) of the clips of `facts`, and of those clips through VAE and vocoder.
    """
    chosen = [k for k, fact in enumerate(facts) if fact["quality"] == "good" and label(fact) is not None]
    truth = np.array([label(facts[k]) for k in chosen])
    groups = [facts[k]["original"] for k in chosen]
    features, copied = features[chosen], copied[chosen]
    ceiling, through = np.zeros(len(truth), bool), np.zeros(len(truth), bool)
    for train, test in GroupKFold(5).split(features, truth, groups):
        model = probe().fit(features[train], truth[train])
        ceiling[test] = model.predict(features[test]) == truth[test]
        through[test] = model.predict(copied[test]) == truth[test]
    model = probe().fit(features, truth)
    asked = [(k, name) for k, name in wanted if name in model.classes_]
    names = np.array([name for _, name in asked])
    answers = model.predict(made[[k for k, _ in asked]])
    right = answers == names
    order = np.random.default_rng(0)
    shuffled = [float((answers == order.permutation(names)).mean()) for _ in range(SHUFFLES)]
    row = {
        "what": what,
        "classes": len(model.classes_),
        "clips": len(asked),
        "chance": float(np.mean(shuffled)),
        "chance_sd": float(np.std(shuffled)),
        "majority": max(float((truth == name).mean()) for name in model.classes_),
        "corpus": float(ceiling.mean()),
        "corpus_through_vae_and_vocoder": float(through.mean()),
        "generated": float(right.mean()),
    }
    row["each"] = {name: round(float(right[names == name].mean()), 3) for name in sorted(set(names))}
    return row


def tempo(
    prompts: list[Prompt],
    read: np.ndarray,
    facts: list[dict[str, Any]],
    known: np.ndarray,
    copied: np.ndarray,
) -> Any:
    """Shares within 6 %, octave folded: of clips asked for a tempo and drums, of the corpus, of its copies."""

    def close(got: float, bpm: float) -> bool:
        return any(abs(got * fold / bpm - 1) <= CLOSE for fold in FOLDS[:3])

    asked = [
        (k, prompt)
        for k, prompt in enumerate(p for p in prompts for _ in SEEDS)
        if prompt.bpm and prompt.drums
    ]
    table = [
        {"prompt": prompt.prompt, "bpm": prompt.bpm, "read": round(float(read[k]), 1),
         "close": close(read[k], prompt.bpm or 0)}
        for k, prompt in asked
    ]  # fmt: skip
    drummed = [k for k, fact in enumerate(facts) if fact["drums"] and fact["quality"] == "good"]
    ceiling, through = ([close(each[k], facts[k]["bpm"]) for k in drummed] for each in (known, copied))
    shuffled = [
        close(read[k], asked[(n + 7 * len(SEEDS)) % len(asked)][1].bpm or 0) for n, (k, _) in enumerate(asked)
    ]
    return {
        "what": "tempo within 6 %, octave folded",
        "clips": len(table),
        "chance": float(np.mean(shuffled)),  # each clip against another prompt's tempo
        "corpus": float(np.mean(ceiling)),
        "corpus_through_vae_and_vocoder": float(np.mean(through)),
        "generated": float(np.mean([row["close"] for row in table])),
        "table": table,
    }


def relevance(text: np.ndarray, heard: np.ndarray) -> dict[str, Any]:
    """Share of pairs in which a clip is nearer to its own prompt than to another prompt."""
    owner = np.repeat(np.arange(len(text)), len(SEEDS))
    scores = heard @ text.T
    own = scores[np.arange(len(owner)), owner]
    others = np.arange(len(text))[None] != owner[:, None]
    wins = (own[:, None] > scores)[others]
    return {
        "what": "own prompt above another's, CLAP",
        "pairs": int(wins.size),
        "chance": 0.5,
        "generated": float(wins.mean()),
        "score": float(own.mean()),
        "score_shuffled": float(scores[others].mean()),
    }


def copied(heard: np.ndarray, train: np.ndarray, who: str) -> dict[str, Any]:
    """The paper's SIM_AA: share of clips whose nearest training clip is nearer than a threshold."""
    found = novelty(heard, train, thresholds=THRESHOLDS)
    shares = {f"above {limit:.2f}": share for limit, share in found.share.items()}
    return {
        "what": "SIM_AA",
        "who": who,
        "clips": len(heard),
        **shares,
        "median": float(np.median(found.nearest.similarity)),
    }


@torch.no_grad()
def copies(pipe: MusicLDMPipeline, paths: list[Path], who: str) -> list[dict[str, Any]]:
    """Mean absolute difference of log-mels (nats): of the VAE alone, through the vocoder, through both."""
    found: dict[str, list[float]] = {"vae": [], "vocoder": [], "both": []}
    scale = pipe.vae.config.scaling_factor
    for path in paths:
        wave = torch.from_numpy(audio.read(path, RATE)[0])[None, : 1024 * 160]
        wave = torch.nn.functional.pad(wave, (0, 1024 * 160 - wave.shape[1]))
        mel = log_mel(wave)
        through = pipe.vae.decode(pipe.vae.encode(mel).mode() * scale)
        found["vae"].append(float((through - mel).abs().mean()))
        for name, source in (("vocoder", mel), ("both", through)):
            again = log_mel(pipe.vocoder(source[:, 0])[:, : wave.shape[1]])
            found[name].append(float((again - mel).abs().mean()))
    return [
        {"what": "copy-synthesis, log-mel distance", "who": who, "through": name, "clips": len(values),
         "mean": float(np.mean(values))}
        for name, values in found.items()
    ]  # fmt: skip


@torch.no_grad()
def copied_clips(
    pipe: MusicLDMPipeline, options: argparse.Namespace, facts: list[dict[str, Any]]
) -> list[Path]:
    """The held-out clips through VAE and vocoder; made if they are not there yet."""
    paths = [options.work / "copies" / Path(fact["path"]).name for fact in facts]
    paths[0].parent.mkdir(exist_ok=True)
    for fact, path in zip(facts, paths, strict=True):
        if not path.exists():
            wave = audio.read(options.held_out / fact["path"], RATE)[0][: 1024 * 160]
            copy = pipe.decode(pipe.encode(wave, RATE))[0, : len(wave)]
            audio.write(path, copy.clamp(-1, 1).numpy(), RATE)
    return paths


def judge(options: argparse.Namespace) -> None:
    """Measure the clips that `clips` made."""
    pipe = MusicLDMPipeline.from_pretrained(options.model)
    heard, prompts = Heard(options.work, pipe), evaluation_prompts()[: options.prompts]
    facts = lines(options.held_out / "facts.jsonl")
    known, known_tempo = heard.features([options.held_out / fact["path"] for fact in facts], "held-out")
    through, through_tempo = heard.features(copied_clips(pipe, options, facts), "copies")
    owners = [(k, prompt) for k, prompt in enumerate(prompts) for _ in SEEDS]
    plain = [clip_of(options.work, k, seed) for k in range(len(prompts)) for seed in SEEDS]
    made, read = heard.features(plain, "plain")
    rows = [tempo(prompts, read, facts, known_tempo, through_tempo)]
    questions: list[tuple[str, Callable[[Prompt], str | None], Callable[[dict[str, Any]], str | None]]] = [
        ("style", lambda p: p.style, lambda fact: str(fact["style"])),
        ("lead instrument", lambda p: p.lead, lambda fact: fact["lead"]),
        ("drums, none, ambient", drums_asked, drums_known),
    ]
    for what, ask, label in questions:
        wanted = [(n, name) for n, (_, prompt) in enumerate(owners) if (name := ask(prompt)) is not None]
        rows.append(content(what, known, facts, wanted, made, label, through))
    text = pipe.clap.embed_text([prompt.prompt for prompt in prompts]).double().numpy()
    embedded = heard.embeddings(plain, "plain")
    rows.append(relevance(text, embedded))
    rows += [negative_row(name, options.work, heard, prompts, known, facts) for name in NEGATIVES]
    trained = [
        options.train / row["path"]
        for row in lines(options.train / "manifest.jsonl")
        if row["split"] == "train"
    ]
    train = heard.embeddings(trained, "train")
    good = [options.held_out / fact["path"] for fact in facts]
    rows.append(copied(embedded, train, "generated"))
    rows.append(copied(heard.embeddings(good, "held-out"), train, "held-out corpus"))
    rows += copies(pipe, good[:64], "held-out corpus")
    if options.song:
        rows += copies(pipe, options.song, "recordings: " + ", ".join(path.name for path in options.song))
    for row in rows:
        print(json.dumps({key: value for key, value in row.items() if key not in ("table", "each")}))
    save("demo_quality", rows)


def drums_asked(prompt: Prompt) -> str | None:
    """Of a prompt that says."""
    if prompt.style == "ambient":
        return "ambient"
    return None if prompt.drums is None else "drums" if prompt.drums else "no drums"


def drums_known(fact: dict[str, Any]) -> str:
    """Of a clip of the corpus."""
    return "ambient" if fact["style"] == "ambient" else "drums" if fact["drums"] else "no drums"


def negative_row(
    negative: str,
    work: Path,
    heard: Heard,
    prompts: list[Prompt],
    known: np.ndarray,
    facts: list[dict[str, Any]],
) -> dict[str, Any]:
    """How a negative prompt moves a probe's log odds for what it says, clip by clip."""
    if negative == "drums":
        truth = np.array([bool(fact["drums"]) for fact in facts])
    else:
        truth = np.array([fact["quality"] != "good" for fact in facts])
    model = probe().fit(known, truth)
    pairs = [
        (clip_of(work, k, seed), clip_of(work, k, seed, negative))
        for k in range(len(prompts))
        for seed in NEGATIVE_SEEDS
        if clip_of(work, k, seed, negative).exists()
    ]
    name = negative.replace(" ", "-")
    before = model.decision_function(heard.features([a for a, _ in pairs], f"before-{name}")[0])
    after = model.decision_function(heard.features([b for _, b in pairs], name)[0])
    moved = after - before
    error = float(moved.std(ddof=1) / len(moved) ** 0.5)
    return {
        "what": f"negative prompt {negative!r}: log odds of it, change",
        "clips": len(pairs),
        "mean": float(moved.mean()),
        "standard_error": error,
        "share_in_direction": float((moved < 0).mean()),
    }


def main() -> None:
    """Make the clips, or judge them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("clips", "judge"))
    parser.add_argument("model")
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--prompts", type=int, help="how many of the 64; default: all")
    parser.add_argument("--seconds", type=float, help="of a clip; default: the model's")
    parser.add_argument("--guidance", type=float, help="default: the command line's for this model")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="of the prompts, for N processes")
    parser.add_argument("--held-out", type=Path)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--song", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    if options.what == "judge" and not (options.held_out and options.train):
        parser.error("judge needs --held-out and --train")
    options.work.mkdir(parents=True, exist_ok=True)
    {"clips": clips, "judge": judge}[options.what](options)


if __name__ == "__main__":
    main()
