"""What edits do to music, measured with a trained checkpoint, in one JSON file.

    python benchmarks/editing_quality.py MODEL CLIP CLIP ... [--steps 50] [--seeds 0,1] [--seconds 10.24]

MODEL is a folder or a hub id, a CLIP a sound file; eight clips or more make the shares mean something. Each is
cut to --seconds from its start.

- seam: spectral flux where an inpainted part (its middle third) meets what was kept, as its rank in the flux
  of the whole clip: 0.5 is what a place has that cannot be told from the music around it, 1 a click. Beside it
  the same places in the plain reconstruction, and the control, the same part of another clip butted in.
- strength: distance of the result to the input, in latents (relative rms) and in log-spectra (dB), at eleven
  strengths; `grows` is the share of neighbouring pairs that grow, of which a monotone curve has all.
- audio_prompt: clips made from each clip's CLAP embedding alone; `won` is the share of other clips to which
  the result is less similar, by CLAP, than to its own; `chance` is 0.5. The control is a text prompt.

Without a trained checkpoint the figures say that the program runs, and no more.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import relative, save, spectral_distance
from long_form import flux, rank_at
from workload import DEVICE

from musicldm import MusicLDMPipeline, Request, audio
from musicldm.editing import Region, audio_to_audio, inpaint

STRENGTHS = tuple(k / 10 for k in range(11))


def read(pipe: MusicLDMPipeline, path: Path, seconds: float) -> np.ndarray:
    """(s,) at the model's rate. Raises ValueError for a clip that is too short."""
    wave, rate = audio.read(path)
    wave = audio.resample(wave, rate, pipe.grid.rate)
    samples = pipe.grid.samples(seconds)
    if len(wave) < samples:
        raise ValueError(f"{path.name}: {len(wave) / pipe.grid.rate:.2f} s, expected {seconds} s or more")
    return wave[:samples]


def plain(pipe: MusicLDMPipeline, clips: np.ndarray) -> np.ndarray:
    """(b, s) -> (b, s), encoded and decoded."""
    with torch.no_grad():
        return np.concatenate(
            [pipe.decode(pipe.encode(c, pipe.grid.rate))[:, : len(c)].float().cpu().numpy() for c in clips]
        )


def seams(pipe: MusicLDMPipeline, clips: np.ndarray, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per clip and seed."""
    rate, row = pipe.grid.rate, pipe.grid.seconds(1)
    rows_all = pipe.grid.rows(clips.shape[1])
    start, end = rows_all // 3 * row, (rows_all - rows_all // 3) * row
    kept = plain(pipe, clips)
    rows = []
    for k, wave in enumerate(clips):
        cut = kept[k].copy()
        inside = slice(round(start * rate), round(end * rate))
        cut[inside] = kept[(k + 1) % len(clips)][inside]
        for seed in options.seeds:
            request = Request(num_inference_steps=options.steps, seed=seed)
            made = inpaint(pipe, wave, rate, request, regions=[Region(start=start, end=end)]).audios[0]
            ranks = {
                name: rank_at(*flux(each, rate), [start, end])
                for name, each in (("inpainted", made), ("reconstruction", kept[k]), ("butted", cut))
            }
            rows.append({"what": "seam", "clip": k, "seed": seed, "start_s": start, "end_s": end, **ranks})
            print(rows[-1], flush=True)
    return rows


def strengths(pipe: MusicLDMPipeline, clips: np.ndarray, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per clip."""
    rate, rows = pipe.grid.rate, []
    kept = plain(pipe, clips)
    for k, wave in enumerate(clips):
        with torch.no_grad():
            source = pipe.encode(wave, rate)
        in_latents, in_spectra = [], []
        for strength in STRENGTHS:
            request = Request(num_inference_steps=options.steps, seed=options.seeds[0], output_type="latent")
            latents = audio_to_audio(pipe, wave, rate, request, strength=strength).audios
            with torch.no_grad():
                made = pipe.decode(latents)[:, : len(wave)].cpu()
            in_latents.append(round(relative(latents, source), 4))
            in_spectra.append(round(spectral_distance(made, torch.from_numpy(kept[k : k + 1])), 3))
        rows.append(
            {
                "what": "strength",
                "clip": k,
                "strengths": STRENGTHS,
                "latents": in_latents,
                "log_spectral_db": in_spectra,
                "grows_latents": grows(in_latents),
                "grows_log_spectral": grows(in_spectra),
            }
        )
        print(rows[-1], flush=True)
    return rows


def grows(values: list[float]) -> float:
    """The share of neighbours of which the second is larger."""
    return round(float(np.mean(np.diff(values) > 0)), 4)


def audio_prompts(
    pipe: MusicLDMPipeline, clips: np.ndarray, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row per clip and seed: CLAP similarity of the result to all clips."""
    rate, rows = pipe.grid.rate, []
    heard = pipe.embed_audio(clips, rate)
    text = pipe.embed_text("music")
    call = {"audio_length_in_s": options.seconds, "num_inference_steps": options.steps,
            "guidance_scale": options.guidance}  # fmt: skip
    for seed in options.seeds:
        free = pipe(prompt_embeds=text, seed=seed, **call).audios
        for k in range(len(clips)):
            made = pipe(prompt_embeds=heard[k : k + 1], seed=seed, **call).audios
            similar, control = ((pipe.embed_audio(w, rate) @ heard.T)[0].tolist() for w in (made, free))
            rows.append(
                {
                    "what": "audio_prompt",
                    "clip": k,
                    "seed": seed,
                    "own": round(similar[k], 4),
                    "others": [round(s, 4) for j, s in enumerate(similar) if j != k],
                    "won": won(similar, k),
                    "won_by_text": won(control, k),
                }
            )
            print(rows[-1], flush=True)
    return rows


def won(similar: list[float], k: int) -> float:
    """The share of the others that are less similar than the k-th."""
    return statistics.fmean(float(similar[k] > s) for j, s in enumerate(similar) if j != k)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The means that the project's promises are about."""
    names = {
        "seam": ("inpainted", "reconstruction", "butted"),
        "strength": ("grows_latents", "grows_log_spectral"),
        "audio_prompt": ("won", "won_by_text"),
    }
    made = []
    for what, columns in names.items():
        of_kind = [row for row in rows if row["what"] == what]
        for column in columns:
            values = [row[column] for row in of_kind]
            mean = round(statistics.fmean(values), 4)
            made.append({"what": "summary", "of": what, "figure": column, "mean": mean, "n": len(values)})
    curves = {
        column: np.mean([row[column] for row in rows if row["what"] == "strength"], axis=0)
        for column in ("latents", "log_spectral_db")
    }
    return made + [
        {
            "what": "summary",
            "of": "strength",
            "figure": f"mean curve of {column}",
            "values": curve.round(4).tolist(),
            "grows": grows(curve.tolist()),
        }
        for column, curve in curves.items()
    ]


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder or hub id")
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=2.0, help="towards the audio prompt")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0])
    parser.add_argument("--seconds", type=float, help="default: the model's training clips'")
    options = parser.parse_args()
    if len(options.clips) < 2:
        parser.error("expected two clips or more: each is compared with the others")
    pipe = MusicLDMPipeline.from_pretrained(options.model).to(DEVICE)
    options.seconds = pipe.default_seconds if options.seconds is None else options.seconds
    clips = np.stack([read(pipe, path, options.seconds) for path in options.clips])
    rows = seams(pipe, clips, options) + strengths(pipe, clips, options) + audio_prompts(pipe, clips, options)
    means = summary(rows)
    for row in means:
        print(row)
    save(
        "editing_quality",
        means + rows,
        command=f"benchmarks/editing_quality.py MODEL CLIP... --steps {options.steps} --guidance {options.guidance:g} --seconds "
        f"{options.seconds:g} --seeds {','.join(map(str, options.seeds))}",
        clips=[path.name for path in options.clips],
        scheduler=type(pipe.scheduler).__name__,
    )


if __name__ == "__main__":
    main()
