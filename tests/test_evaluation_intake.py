"""Bad clips: named, counted, refused together, or left out by choice; never in silence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from evaluation_toys import RATE, tone, write_batch, write_folder, write_manifest

from musicldm import audio
from musicldm.cli import main
from musicldm.evaluation.examine import facts_of
from musicldm.evaluation.intake import key_of, read_set
from musicldm.evaluation.problems import KINDS

CUT = 1000  # bytes that are missing


def evaluate(generated: Path, out: Path, *options: object) -> int:
    features = ["--features", "evaluation_toys:spectrum", "--bootstrap", "0"]
    return main(["evaluate", str(generated), "-o", str(out), "--quiet", *features, *map(str, options)])


def report(out: Path) -> dict:
    return json.loads((out / "report.json").read_bytes())


def nan(path: Path) -> None:
    wave = tone(3)
    wave[100:103] = np.nan
    soundfile.write(path, wave, RATE, subtype="FLOAT")


def cut_off(path: Path) -> None:
    path.write_bytes(audio.encode("x.wav", tone(3), RATE)[:-CUT])


def cut_off_flac(path: Path) -> None:
    path.with_suffix(".flac").write_bytes(audio.encode("x.flac", tone(3), RATE)[: -20 * CUT])


BAD = {  # kind -> what makes such a file in a folder of clip0.wav, ...; and a word of the explanation
    "unreadable": (lambda path: path.write_bytes(b"RIFF, or so"), "not an audio file"),
    "cut off": (cut_off, "its header says"),
    "non-finite": (nan, "3 samples are NaN or infinite"),
    "silent": (lambda path: audio.write(path, 0.0005 * tone(3), RATE), "peak 0.0"),
    "too short": (lambda path: audio.write(path, tone(3, seconds=0.9), RATE), "0.90 s, expected 1 s"),
    "other rate": (lambda path: audio.write(path, tone(3, rate=22050), 22050), "22050 Hz, most of the generated"),
    "stereo": (lambda path: audio.write(path, np.stack([tone(3), tone(4)], axis=1), RATE), "2 channels"),
    "duplicate": (lambda path: audio.write(path.with_name("zz.wav"), tone(1, 1), RATE), "the same samples as clip1.wav"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_and_can_be_left_out(tmp_path, capsys, kind):
    made, real = write_folder(tmp_path / "made", 3, 0), write_folder(tmp_path / "real", 3, 50)
    clean = tmp_path / "clean"
    assert evaluate(made, clean, "--reference", real) == 0
    make, word = BAD[kind]
    make(made / "bad.wav")
    out = tmp_path / "report"
    assert evaluate(made, out, "--reference", real) == 1
    said = capsys.readouterr().err
    assert f"1 {kind}" in said
    assert word in said
    assert f'--skip "{kind}"' in said
    assert not (out / "report.json").exists()
    assert json.loads((out / "problems.jsonl").read_text())["kind"] == kind

    other = "silent" if kind != "silent" else "stereo"
    assert evaluate(made, out, "--reference", real, "--skip", other) == 1  # that was not the choice
    assert evaluate(made, out, "--reference", real, "--skip", kind) == 0
    found = report(out)
    assert found["excluded"]["counts"] == {"GENERATED": {kind: 1}}
    assert (found["sets"]["GENERATED"]["files"], found["sets"]["GENERATED"]["used"]) == (4, 3)
    assert found["results"] == report(clean)["results"]
    assert f"left out by --skip: 1 {kind} of GENERATED" in (out / "index.html").read_text()


def test_everything_that_is_wrong_stands_in_one_error(tmp_path, capsys):
    made, real, train = (
        write_folder(tmp_path / name, 3, seed) for name, seed in (("made", 0), ("real", 50), ("train", 90))
    )
    for kind, (make, _) in BAD.items():
        make(made / f"{kind}.wav")
    nan(real / "hole.wav")
    (train / "song.m4a").write_bytes(b"...")
    manifest = train / "m.jsonl"
    manifest.write_text('{"path": "clip0.wav"}\n{"path": "gone.wav"}\n{"path": "clip1.wav"}\n')
    out = tmp_path / "report"
    assert evaluate(made, out, "--reference", real, "--train", manifest) == 1
    said = capsys.readouterr().err
    assert "10 problems stand in the way" in said
    for kind in (*BAD, "missing"):
        assert f"1 {kind}" in said
    for name in ("GENERATED zz.wav", "REFERENCE hole.wav", "TRAIN gone.wav"):
        assert name in said
    assert len((out / "problems.jsonl").read_text().splitlines()) == 10
    assert evaluate(made, out, "--reference", real, "--train", manifest, "--skip", "all") == 0
    assert report(out)["excluded"]["counts"] == {
        "GENERATED": dict.fromkeys(BAD, 1), "REFERENCE": {"non-finite": 1}, "TRAIN": {"missing": 1},
    }  # fmt: skip
    assert evaluate(made, out, "--train", train) == 1
    assert "song.m4a: unreadable (.m4a is not read; convert it to .flac)" in capsys.readouterr().err


def test_sets_that_are_none_are_all_named_and_cannot_be_left_out(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    one = write_folder(tmp_path / "one", 1, 0)
    (tmp_path / "torn.jsonl").write_text('{"path": 5}\n{"path"\n')
    out = tmp_path / "report"
    assert (
        evaluate(
            one, out, "--reference", tmp_path / "empty", "--train", tmp_path / "torn.jsonl", "--skip", "all"
        )
        == 1
    )
    said = capsys.readouterr().err
    assert "1 of 1 clips can be used, expected 2 or more" in said
    assert "no sound files in it" in said
    assert "2 bad rows" in said
    assert evaluate(tmp_path / "nowhere", out, "--skip", "all") == 1
    assert "there is no such folder or manifest" in capsys.readouterr().err


def test_too_few_clips_after_leaving_out_is_an_error(tmp_path, capsys):
    made = write_folder(tmp_path / "made", 3, 0)
    for k in (0, 1):
        nan(made / f"clip{k}.wav")
    assert evaluate(made, tmp_path / "report", "--skip", "non-finite") == 1
    assert "1 of 3 clips can be used" in capsys.readouterr().err


def test_a_manifest_of_several_splits_wants_one_said(tmp_path, capsys):
    real = write_folder(tmp_path / "real", 6, 50)
    manifest = write_manifest(real, 6)
    rows = manifest.read_text().splitlines()
    manifest.write_text("\n".join([*rows[:3], *(row.replace('"test"', '"train"') for row in rows[3:])]))
    made, out = write_folder(tmp_path / "made", 2, 0), tmp_path / "report"
    assert evaluate(made, out, "--reference", manifest) == 1
    assert "it has the splits test, train; say which by --reference-split NAME" in capsys.readouterr().err
    assert evaluate(made, out, "--reference", manifest, "--reference-split", "test", "--train", manifest) == 0
    assert [report(out)["sets"][role]["used"] for role in ("REFERENCE", "TRAIN")] == [3, 3]
    assert report(out)["sets"]["TRAIN"]["about"]["split"] == "train"


def test_missing_pairs_are_named(tmp_path, capsys):
    made, real = write_folder(tmp_path / "made", 4, 0), write_folder(tmp_path / "real", 4, 50)
    (real / "clip2.wav").rename(real / "other.wav")
    out = tmp_path / "report"
    options = ["--reference", real, "--features", "evaluation_toys:tagger"]
    assert evaluate(made, out, *options) == 1
    assert "GENERATED clip2.wav: no partner (REFERENCE has no 'clip2')" in capsys.readouterr().err
    assert evaluate(made, out, *options, "--skip", "no partner") == 0
    rows = {row["metric"]: row["n"] for row in report(out)["results"]}
    assert (rows["paired KL, softmax"], rows["kernel distance (MMD^2)"]) == ("3 pairs", "3, 4")
    for path in sorted(real.glob("clip*")):
        path.rename(real / f"real-{path.name}")
    assert evaluate(made, out, *options) == 0  # no names in common: no pairs were meant
    assert {
        "metric": "paired KL",
        "why": "no generated clip has the name (or id) of a reference clip",
    } in report(out)["left_out"]


def test_prompts_without_clips_and_clips_without_prompts_are_named(tmp_path, capsys):
    made, out = write_folder(tmp_path / "made", 3, 0), tmp_path / "report"
    table = tmp_path / "prompts.csv"
    table.write_text("id,text\nclip0,a\nclip1,b\nclip9,c\n")
    assert evaluate(made, out, "--prompts", table) == 1
    said = capsys.readouterr().err
    assert "GENERATED clip2.wav: no prompt" in said
    assert "PROMPTS clip9: no clip" in said
    assert evaluate(made, out, "--prompts", table, "--skip", "no prompt,no clip") == 0
    assert report(out)["sets"]["GENERATED"]["used"] == 2
    for text, word in (
        ("id,text\nclip0,a, b\nclip1,c\n", "row 1: has 3 fields, and the header 2; quote commas"),
        ("id,text\nclip0,a\nclip0,b\n", "row 2: 'clip0' stands in it twice"),
        ("id,words\nclip0,a\n", "row 1: needs one of path, file, id and one of"),
        ("id,text\n", "holds no rows"),
    ):
        table.write_text(text)
        assert evaluate(made, out, "--prompts", table) == 1
        assert word in capsys.readouterr().err


# ---- the batch command's folder ----


def test_a_batchs_folder_says_prompts_seeds_and_how_it_was_made(tmp_path):
    found = read_set("GENERATED", write_batch(tmp_path / "made", 3, 0, candidates=4))
    assert found.kind == "batch"
    assert [sound.prompt for sound in found.sounds] == ["band 0", "band 1", "band 2"]
    assert [(sound.key, sound.seed, sound.candidates) for sound in found.sounds] == [
        (f"clip{k}", 1000 + k, 4) for k in range(3)
    ]
    out = tmp_path / "report"
    assert evaluate(tmp_path / "made", out) == 0
    assert any("best of 4" in note for note in report(out)["notes"])


def test_what_is_wrong_in_a_batchs_folder_is_named(tmp_path, capsys):
    made = write_batch(tmp_path / "made", 5, 0)
    audio.write(made / "000000-band-0.wav", tone(9), RATE)  # not what its sidecar says
    (made / "000001-band-1.wav").unlink()
    (made / "000002-band-2.json").unlink()
    (made / "errors.jsonl").write_text('{"index": 7, "prompt": "x", "reason": "no steps"}\n')
    out = tmp_path / "report"
    assert evaluate(made, out) == 1
    said = capsys.readouterr().err
    for line in (
        "000000-band-0.wav: changed",
        "000001-band-1.wav: missing",
        "000002-band-2.wav: stray",
        "row 7: failed row (no steps)",
    ):
        assert line in said
    assert evaluate(made, out, "--skip", "all") == 0
    assert report(out)["sets"]["GENERATED"]["used"] == 2


def test_a_sidecar_that_is_torn_or_of_another_run_is_named(tmp_path, capsys):
    made = write_batch(tmp_path / "made", 4, 0)
    torn, other = made / "000000-band-0.json", made / "000001-band-1.json"
    torn.write_bytes(torn.read_bytes()[:40])
    other.write_text(other.read_text().replace('"run": "', '"run": "0'))
    assert evaluate(made, tmp_path / "report") == 1
    said = capsys.readouterr().err
    assert "000000-band-0.json: unreadable (a sidecar that" in said
    assert "is of another run than run.json" in said


def test_a_file_for_prompts_that_a_batch_knows_already(tmp_path, capsys):
    made = write_batch(tmp_path / "made", 3, 0, ids=False)
    table = tmp_path / "prompts.csv"
    table.write_text("id,prompt\nsong,band 1\n")
    assert evaluate(made, tmp_path / "report", "--prompts", table) == 1
    assert "leave --prompts away" in capsys.readouterr().err


def test_a_training_runs_folder_is_a_folder(tmp_path):
    folder = write_folder(tmp_path / "clips", 2, 0)
    (folder / "run.json").write_text('{"stage": "ldm"}')
    assert read_set("TRAIN", folder).kind == "folder"


@pytest.mark.parametrize(
    ("name", "key"),
    [("a/b/song.wav", "song"), ("song.FLAC", "song"), ("mr. x", "mr. x"), ("c:\\x\\y.mp3", "y"), ("7", "7")],
)
def test_what_pairs_clips(name, key):
    assert key_of(name) == key


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for part in ("a", "b"):
        write_folder(tmp_path / part, 1, 0)
    assert [sound.key for sound in read_set("TRAIN", tmp_path).sounds] == ["a/clip0", "b/clip0"]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_damaged_files_have_a_kind_of_problem_and_nothing_else_happens(tmp_path, suffix):
    """60 files cut or overwritten at random: facts, or a ValueError that says which kind."""
    whole = audio.encode(f"x{suffix}", tone(3, seconds=0.3), RATE)
    generator = np.random.default_rng(5)
    path, kinds = tmp_path / f"x{suffix}", set()
    for _ in range(60):
        data = bytearray(
            whole[: generator.integers(0, len(whole) + 1)] if generator.random() < 0.5 else whole
        )
        for at in generator.integers(0, max(1, len(data)), 8 if len(data) else 0):
            data[at] = generator.integers(256)
        path.write_bytes(data)
        try:
            facts = facts_of(path)
            assert np.isfinite(facts.peak)
            assert facts.samples > 0
        except ValueError as error:
            text, kind = error.args
            assert text
            assert kind in KINDS
            kinds.add(kind)
    assert "unreadable" in kinds
