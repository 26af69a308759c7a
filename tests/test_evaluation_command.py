"""`musicldm evaluate`, the command, with features that cost nothing."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import evaluation_toys
import numpy as np
import pytest
import torch
from evaluation_toys import RATE, tone, write_batch, write_folder, write_manifest

from musicldm import audio
from musicldm.cli import main
from musicldm.evaluation.choosing import choose

FEATURES = ["--features", "evaluation_toys:with_text", "--bootstrap", "0"]
EXACT = 1e-12  # the same float64 sums


def evaluate(generated: Path, out: Path, *options: object) -> int:
    return main(["evaluate", str(generated), "-o", str(out), "--quiet", *FEATURES, *map(str, options)])


def report(out: Path) -> dict:
    return json.loads((out / "report.json").read_bytes())


def value(out: Path, metric: str, of: str) -> dict:
    found = [row for row in report(out)["results"] if row["metric"] == metric and row["of"] == of]
    assert len(found) == 1, [(row["metric"], row["of"]) for row in report(out)["results"]]
    return found[0]


@pytest.fixture
def sets(tmp_path):
    """12 generated clips, a band each; 14 real ones; training clips of the first six bands alone."""
    write_batch(tmp_path / "made", 12, 0)
    write_manifest(write_folder(tmp_path / "real", 14, 100), 14)
    write_folder(tmp_path / "train", 6, 200)
    return [
        tmp_path / "made",
        "--reference",
        tmp_path / "real" / "manifest.jsonl",
        "--train",
        tmp_path / "train",
    ]


@pytest.fixture
def calls(monkeypatch):
    """How often the feature was computed."""
    made = []
    one = evaluation_toys.Spectrum.one
    monkeypatch.setattr(
        evaluation_toys.Spectrum, "one", lambda self, wave: made.append(wave) or one(self, wave)
    )
    return made


def test_all_that_the_inputs_allow_is_measured_and_the_rest_is_named(sets, tmp_path, capsys):
    made, *others = sets
    out = tmp_path / "report"
    command = ["evaluate", str(made), *map(str, others), "-o", str(out), "--features", "evaluation_toys:tagger,evaluation_toys:with_text",
               "--bootstrap", "20"]  # fmt: skip
    assert main(command) == 0
    shown = capsys.readouterr().out
    found = report(out)
    metrics = {(row["section"], row["metric"]) for row in found["results"]}
    assert {("quality", "Frechet distance"), ("quality", "kernel distance (MMD^2)"), ("quality", "inception score"),
            ("quality", "paired KL, softmax"), ("relevance", "text-audio similarity"), ("novelty", "SIM_AA@90"),
            ("diversity", "Vendi score (clips in effect)")} <= metrics  # fmt: skip
    assert [left["metric"] for left in found["left_out"]] == ["novelty by evaluation_toys:tagger"]
    for text in (
        "SIM_AA@90",
        "left out: novelty by evaluation_toys:tagger",
        "no clip was left out",
        "heard at 16000 Hz",
    ):
        assert text in shown
    for row in found["results"]:
        if row["low"] is not None:
            assert row["details"]["bootstrap"]["replicates"] == 20
            assert row["low"] <= row["high"]
    assert (
        f"| SIM_AA@95 | {value(out, 'SIM_AA@95', 'GENERATED, TRAIN')['value']:.4f} |"
        in (out / "report.md").read_text()
    )


def test_copies_of_training_clips_are_listed_with_their_originals(sets, tmp_path):
    out = tmp_path / "report"
    assert evaluate(*sets[:1], out, *sets[1:]) == 0
    assert value(out, "SIM_AA@95", "GENERATED, TRAIN")["value"] == 0.5
    assert (
        value(out, "SIM_AA@95", "REFERENCE, TRAIN")["details"]["clips"] == 8
    )  # clip12 and clip13 are bands 0 and 1
    pairs = [
        (entry["generated"]["name"], entry["train"]["name"])
        for entry in report(out)["lists"]["closest_evaluation_toys:with_text"]
    ]
    assert len(pairs) == 12
    assert dict(pairs[:6]) == {f"{k:06d}-band-{k}.wav": f"clip{k}.wav" for k in range(6)}


def test_the_report_has_what_it_takes_to_repeat_it(sets, tmp_path):
    out = tmp_path / "report"
    assert evaluate(*sets[:1], out, *sets[1:], "--seed", 3, "--loudness", "peak") == 0
    found = report(out)
    assert (
        found["features"]["evaluation_toys:with_text"]["sha256"] == hashlib.sha256(b"with-text").hexdigest()
    )
    assert found["handling"]["resampler"] == "soxr, quality HQ"
    assert (found["handling"]["rate"], found["handling"]["loudness"], found["draws"]["seed"]) == (
        RATE,
        "peak",
        3,
    )
    assert {"torch", "numpy", "soxr", "musicldm", "python"} <= set(found["versions"])
    assert found["sets"]["GENERATED"]["about"]["settings"] == {"steps": 5}
    assert [clip["seed"] for clip in found["clips"]] == [1000 + k for k in range(12)]
    digests = [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((tmp_path / "train").glob("*.wav"))
    ]
    assert (
        found["sets"]["TRAIN"]["digest"]
        == hashlib.sha256("".join(f"{d}\n" for d in digests).encode()).hexdigest()
    )
    listed = [json.loads(line) for line in (out / "files.jsonl").read_text().splitlines()]
    assert [row["sha256"] for row in listed if row["role"] == "TRAIN"] == digests

    again = shlex.split(found["command"])
    assert again[:2] == ["musicldm", "evaluate"]
    again[again.index("--output") + 1] = str(tmp_path / "again")
    assert main([*again[1:], "--quiet"]) == 0
    assert report(tmp_path / "again")["results"] == found["results"]


def test_a_second_run_computes_nothing_and_writes_the_same_bytes(sets, tmp_path, calls):
    out = tmp_path / "report"
    assert evaluate(*sets[:1], out, *sets[1:], "--bootstrap", 20) == 0
    assert len(calls) == 12 + 14 + 6
    before = {
        name: (out / name).read_bytes() for name in ("report.json", "report.md", "index.html", "files.jsonl")
    }
    assert evaluate(*sets[:1], out, *sets[1:], "--bootstrap", 20) == 0
    assert len(calls) == 12 + 14 + 6
    for name, content in before.items():
        assert (out / name).read_bytes() == content, name


def test_an_interrupted_run_goes_on(sets, tmp_path, monkeypatch, calls):
    whole = tmp_path / "whole"
    assert evaluate(*sets[:1], whole, *sets[1:]) == 0
    calls.clear()
    one = evaluation_toys.Spectrum.one

    def interrupted(self, wave):
        if len(calls) == 7:
            raise KeyboardInterrupt
        return one(self, wave)

    out = tmp_path / "report"
    with monkeypatch.context() as patch:
        patch.setattr(evaluation_toys.Spectrum, "one", interrupted)
        assert evaluate(*sets[:1], out, *sets[1:]) == 130
    assert not (out / "report.json").exists()
    assert evaluate(*sets[:1], out, *sets[1:]) == 0
    assert len(calls) == 12 + 14 + 6
    assert report(out)["results"] == report(whole)["results"]


def test_a_damaged_cache_entry_is_noticed_and_made_again(sets, tmp_path, calls, caplog):
    out = tmp_path / "report"
    assert evaluate(*sets[:1], out, *sets[1:]) == 0
    before = report(out)
    entries = sorted((out / "cache" / "features").rglob("*.safetensors"))
    entries[0].write_bytes(entries[0].read_bytes()[:-3])
    entries[1].write_bytes(entries[1].read_bytes()[:-1] + b"\xff")
    for facts in sorted((out / "cache" / "files").rglob("*.json"))[:3]:
        facts.write_bytes(b"{")
    calls.clear()
    assert evaluate(*sets[:1], out, *sets[1:]) == 0
    assert "made again" in caplog.text
    assert report(out) == before


def test_a_changed_file_is_heard_anew(sets, tmp_path, calls):
    out = tmp_path / "report"
    assert evaluate(*sets[:1], out, *sets[1:]) == 0
    calls.clear()
    audio.write(tmp_path / "train" / "clip0.wav", tone(11, 999, seconds=1.7), RATE)
    assert evaluate(*sets[:1], out, *sets[1:]) == 0
    assert len(calls) == 1
    assert (
        value(out, "SIM_AA@95", "GENERATED, TRAIN")["details"]["clips"] == 6
    )  # band 0 has gone, band 11 has come


def test_generated_clips_alone_have_their_diversity(sets, tmp_path):
    out = tmp_path / "report"
    assert evaluate(write_folder(tmp_path / "alone", 4, 0), out) == 0
    found = report(out)
    assert {row["section"] for row in found["results"]} == {"diversity"}
    assert {left["why"].split(";")[0] for left in found["left_out"]} == {
        "no --reference", "no feature is a tagger", "no prompts are known", "no --train",
    }  # fmt: skip


def test_a_set_against_itself_has_distance_zero(tmp_path):
    made, out = write_folder(tmp_path / "made", 16, 0), tmp_path / "report"
    assert evaluate(made, out, "--reference", made) == 0
    assert value(out, "Frechet distance", "GENERATED, REFERENCE")["value"] < EXACT
    assert "16 clips of GENERATED are in REFERENCE too, sample for sample" in report(out)["notes"]


def test_rates_channels_and_loudness_are_handled_as_said(tmp_path, calls):
    made, real, out = write_folder(tmp_path / "made", 3, 0), tmp_path / "real", tmp_path / "report"
    real.mkdir()
    for k in range(3):
        wave = 0.2 * tone(k, 50 + k, rate=44100)
        audio.write(real / f"clip{k}.flac", np.stack([1.5 * wave, 0.5 * wave], axis=1), 44100)
    options = ["--reference", real, "--resample", 16000, "--downmix", "--loudness", "rms"]
    assert evaluate(made, out, *options) == 0
    found = report(out)["sets"]
    assert found["REFERENCE"]["rates_hz"] == {"44100": 3}
    assert found["REFERENCE"]["channels"] == {"2": 3}
    assert len(calls) == 6
    for wave in calls:  # at the feature's 8 kHz; the tones lie below 2 kHz, the noise above is lost
        assert abs(len(wave) - 12000) <= 1
        assert np.sqrt(np.square(wave).mean()) == pytest.approx(0.1, rel=0.05)
    for first, second in zip(calls[:3], calls[3:], strict=True):
        assert evaluation_toys.spectrum.one(first) @ evaluation_toys.spectrum.one(second) > 0.99


def test_long_training_clips_are_searched_window_by_window(tmp_path):
    """A quote from the end of a long track is near a window of it, not near the whole."""
    made, train = write_folder(tmp_path / "made", 2, 0), tmp_path / "train"
    train.mkdir()
    parts = [tone(band, 7, seconds=2.0) for band in (6, 7, 8, 9, 0)]
    audio.write(train / "long.wav", np.concatenate(parts), RATE)
    audio.write(train / "other.wav", tone(5, 8, seconds=2.0), RATE)
    for window, near in ((2.0, True), (0, False)):
        out = tmp_path / f"report{window}"
        assert evaluate(made, out, "--train", train, "--window", window) == 0
        first = report(out)["lists"]["closest_evaluation_toys:with_text"][0]
        assert (first["value"] > 0.95) is near
        if near:
            assert (first["generated"]["name"], first["train"]["name"]) == ("clip0.wav", "long.wav")
            assert (first["train"]["from"], first["train"]["to"]) == (8.0, 10.0)
            assert report(out)["sets"]["TRAIN"]["excerpts"] == 9 + 1


def test_prompts_come_from_a_file_of_their_own(tmp_path):
    made, out = write_folder(tmp_path / "made", 3, 0), tmp_path / "report"
    table = tmp_path / "prompts.csv"
    table.write_text("file,prompt\nclip0.wav,band 0\nsub/clip1.flac,band 1\nclip2,band 5\n")
    assert evaluate(made, out, "--prompts", table) == 0
    found = report(out)
    assert [clip["prompt"] for clip in found["clips"]] == ["band 0", "band 1", "band 5"]
    assert found["lists"]["least_relevant_evaluation_toys:with_text"][0]["generated"]["name"] == "clip2.wav"
    assert found["prompts"]["rows"] == 3


def test_what_a_feature_cannot_do_is_said_for_every_clip(tmp_path, capsys):
    made = write_folder(tmp_path / "made", 3, 0)
    assert evaluate(made, tmp_path / "report", "--features", "evaluation_toys:broken") == 1
    said = capsys.readouterr().err
    assert "broken: could not be computed of 3 clips" in said
    assert said.count("RuntimeError: no such luck") == 3


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ("nothing_here:x", "No module named 'nothing_here'"),
        ("evaluation_toys:nothing", "has no attribute 'nothing'"),
        ("evaluation_toys:number", "int is no Feature; it lacks id"),
        ("evaluation_toys:with_text,evaluation_toys:with_text", "stands in it twice"),
        ("mert", "expected some of clap"),
        ("panns", "needs its weights"),
        (",", "got nothing"),
    ],
)
def test_features_that_are_none(tmp_path, capsys, features, said):
    made = write_folder(tmp_path / "made", 2, 0)
    assert evaluate(made, tmp_path / "report", "--features", features) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--thresholds", "0.9,high"], "expected cosines"),
        (["--thresholds", "1.5"], "expected cosines"),
        (["--seconds", "0"], "--seconds: got 0.0, expected more than 0"),
        (["--shortest", "nan"], "--shortest: got nan"),
        (["--skip", "silence"], "got 'silence', expected all, or some of missing"),
    ],
)
def test_numbers_that_make_no_sense(tmp_path, capsys, options, said):
    made = write_folder(tmp_path / "made", 2, 0)
    assert evaluate(made, tmp_path / "report", *options) == 1
    assert said in capsys.readouterr().err


def test_the_page_asks_nobody_for_anything_and_every_clip_is_where_it_says(sets, tmp_path):
    out = tmp_path / "the report" / "in & here"
    assert evaluate(*sets[:1], out, *sets[1:], "--examples", 5) == 0
    page = (out / "index.html").read_text()
    assert "default-src 'none'" in page
    assert "<script" not in page
    sources = re.findall(r'<audio[^>]* src="([^"]+)"', page)
    assert len(sources) == 5 * 2 + 5 + 5  # closest, outliers, least relevant
    for source in sources:
        assert (out / unquote(source.split("#")[0])).is_file(), source
    assert not re.search(r'(src|href)="(?!data:|\.\./)', page)
    assert page.count("<svg") == 3


def test_a_page_can_hold_its_clips(sets, tmp_path):
    out = tmp_path / "report"
    assert evaluate(*sets[:1], out, *sets[1:], "--examples", 1, "--embed") == 0
    sources = re.findall(r'<audio[^>]* src="([^"]+)"', (out / "index.html").read_text())
    assert len(sources) == 4
    assert all(source.startswith("data:audio/flac;base64,") for source in sources)


def test_prompts_are_text_on_the_page(tmp_path):
    made, out = write_folder(tmp_path / "made", 2, 0), tmp_path / "report"
    attack = '"><script>alert(1)</script> band 3'
    table = tmp_path / "prompts.jsonl"
    table.write_text(
        "".join(json.dumps({"path": f"clip{k}.wav", "caption": [attack]}) + "\n" for k in range(2))
    )
    assert evaluate(made, out, "--prompts", table) == 0
    assert "<script" not in (out / "index.html").read_text()
    assert "&lt;script&gt;" in (out / "index.html").read_text()


def test_a_single_prompt_has_no_interval(tmp_path):
    made, out = write_folder(tmp_path / "made", 3, 0), tmp_path / "report"
    manifest = made / "m.csv"
    manifest.write_text("path,caption\nclip0.wav,\nclip1.wav,band 1\nclip2.wav,\n")
    assert evaluate(manifest, out, "--bootstrap", 20) == 0
    row = value(out, "text-audio similarity", "GENERATED and its prompts")
    assert (row["n"], row["low"]) == ("1", None)
    assert "2 generated clips have no prompt, and no part in the relevance" in report(out)["notes"]
    assert [clip["text_audio_evaluation_toys:with_text"] is None for clip in report(out)["clips"]] == [
        True,
        False,
        True,
    ]


def test_the_feature_without_weights_goes_by_its_name():
    (name, feature), *none = choose("logmel", "no model is asked for", torch.device("cpu")).items()
    assert (name, feature.dim, none) == ("logmel", 2080, [])
