"""Settings, the moving average, the log: what a run is told and what it says."""
# ruff: noqa: RUF009  (`key` makes a dataclass field)

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from helpers import TINY
from torch import nn

from musicldm.checkpoint import CheckpointError
from musicldm.cli import main
from musicldm.io.distributed import Group
from musicldm.training import ldm, vae
from musicldm.training.command import STAGES, example, open_folder, run_stage
from musicldm.training.config import ConfigError, as_toml, differences, key, keys_of, parse, read_toml
from musicldm.training.ema import MovingAverage, ramped
from musicldm.training.parts import clap_part, network_part, refuse_unheard_init
from musicldm.training.settings import RunConfig

CONFIGS = Path(vae.__file__).parent / "configs"
LEAST = {"output": "x", "data": {"manifest": "m.jsonl"}, "loop": {"steps": 3}}


@dataclass(frozen=True, kw_only=True)
class Inner:
    width: int = key("how wide")
    rate: float = key("how fast", 0.5)
    kinds: tuple[tuple[int, ...], ...] = key("nested", ((1, 2), (3,)))
    either: str | dict[str, int] = key("a name or a table", "a")


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = key("table")
    name: str = key("name", 'quote " and \\ and \x7f and \u00fc')
    limit: float = key("number", math.inf)


def test_a_config_survives_being_written(tmp_path):
    config = Outer(inner=Inner(width=3, either={"a b": 1}), name="new\nline")
    path = tmp_path / "c.toml"
    path.write_text(as_toml(config), encoding="utf-8")
    assert parse(Outer, read_toml(path), "c") == config
    plain = Outer(inner=Inner(width=1))
    path.write_text(as_toml(plain), encoding="utf-8")
    assert parse(Outer, read_toml(path), "c") == plain


def test_everything_wrong_is_named_at_once():
    table = {"inner": {"rate": "fast", "kinds": [[1, "x"]], "either": 3, "widht": 2}, "nmae": "x"}
    with pytest.raises(ConfigError) as raised:
        parse(Outer, table, "run.toml")
    said = str(raised.value)
    assert said.startswith("run.toml: 6 problems")
    for line in (
        "unknown key nmae; there are inner, name, limit",
        "unknown key inner.widht; there are width, rate, kinds, either",
        "missing key inner.width: how wide",
        "inner.rate: got 'fast', expected a number",
        "inner.kinds: got 'x', expected a whole number",
        "inner.either: got 3, expected a string or a table",
    ):
        assert line in said


def test_true_is_no_number_and_a_whole_number_is_one():
    assert parse(Inner, {"width": 1, "rate": 2}, "c").rate == 2.0
    with pytest.raises(ConfigError, match="width: got True, expected a whole number"):
        parse(Inner, {"width": True}, "c")


def test_a_missing_table_names_the_keys_that_it_needs():
    with pytest.raises(ConfigError) as raised:
        parse(RunConfig, {"output": "x"}, "c")
    assert "missing key loop.steps" in str(raised.value)
    assert "missing key data.manifest" in str(raised.value)


def test_overrides_are_toml_or_else_strings(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[loop]\nsteps = 1\n")
    sets = ["loop.steps=20", "loop.clip_norm = 1.5", "data.manifest=my music/m.jsonl", 'output="a=b"']
    expected = {
        "loop": {"steps": 20, "clip_norm": 1.5},
        "data": {"manifest": "my music/m.jsonl"},
        "output": "a=b",
    }
    assert read_toml(path, sets) == expected
    with pytest.raises(ConfigError, match="--set steps: expected KEY=VALUE"):
        read_toml(path, ["steps"])
    with pytest.raises(ConfigError, match="steps is no table"):
        read_toml(path, ["loop.steps.more=1"])


def test_a_file_that_is_no_toml_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read as TOML"):
        read_toml(tmp_path / "gone.toml")
    (tmp_path / "bad.toml").write_text("steps = = 3")
    with pytest.raises(ConfigError, match=r"bad\.toml: cannot be read as TOML .*line 1"):
        read_toml(tmp_path / "bad.toml")


def test_differences_name_keys():
    before = parse(RunConfig, LEAST, "c")
    after = replace(before, loop=replace(before.loop, steps=9), seed=1)
    assert differences(before, after) == ["loop.steps: 3 -> 9", "seed: 0 -> 1"]
    assert differences(before, before) == []


@pytest.mark.parametrize("config", [ldm.Config, vae.Config])
def test_every_key_says_what_it_means(config):
    keys = list(keys_of(config))
    assert all(meaning for _, _, meaning in keys)
    assert {name for name, default, _ in keys if not default} == {"output", "data.manifest", "loop.steps"}


def test_the_keys_are_listed_on_request(capsys):
    assert main(["train", "ldm", "--keys"]) == 0
    shown = capsys.readouterr().out
    assert "loop.steps = (must be given)\n    optimiser steps" in shown
    assert "ldm.lr = 3e-05" in shown


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda p: p.stem)
def test_example_configs_are_understood(path):
    stage = path.stem.split("-")[0]
    if STAGES[stage] in ("vocoder", "clap"):
        pytest.skip("another stage's own tests read it")
    config = {"ldm": ldm.Config, "vae": vae.Config}[stage]
    parse(config, read_toml(path), str(path))


def test_an_unknown_key_ends_the_command_before_any_work(tmp_path, capsys):
    path = tmp_path / "c.toml"
    path.write_text('output = "x"\n[loop]\nsteps = 1\nstep_size = 2\n[data]\nmanifest = "m"\n')
    assert main(["train", "vae", str(path)]) == 1
    assert "unknown key loop.step_size; there are steps, batch_size" in capsys.readouterr().err
    assert main(["train", "vae"]) == 1
    assert "give a CONFIG.toml" in capsys.readouterr().err


def test_a_resumed_run_says_which_keys_changed(tmp_path, caplog):
    config = parse(RunConfig, {**LEAST, "output": str(tmp_path)}, "c")
    open_folder(config, "vae", Group(), resume=False)
    open_folder(replace(config, seed=4), "vae", Group(), resume=True)
    assert "since the run was started: seed: 0 -> 4" in caplog.text
    assert "seed = 4" in (tmp_path / "config.toml").read_text()
    with pytest.raises(ValueError, match="holds a run of stage 'vae', not 'ldm'"):
        open_folder(config, "ldm", Group(), resume=True)


def test_an_example_goes_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert example(Path("ldm-bam")) == CONFIGS / "ldm-bam.toml"
    assert example(Path("mine.toml")) == Path("mine.toml")
    with pytest.raises(
        ValueError, match="ldm-bsm: neither a file nor an example config; there are clap-demo, clap, ldm-bam"
    ):
        example(Path("ldm-bsm"))


@pytest.mark.parametrize(
    ("stage", "config", "part"),
    [
        ("vae", "vae", "vae"),
        ("vocoder", "vocoder", "vocoder"),
        ("clap", "clap", "clap"),
        ("ldm", "ldm-bam", "unet"),
        ("ldm", "ldm-demo-bam", "unet"),  # a table, not a preset
    ],
)
def test_init_of_the_command_line_is_not_overruled_in_silence(tmp_path, capsys, stage, config, part):
    output = tmp_path / "run"
    assert main(["train", stage, config, "--set", "parts.init=demo", "--set", f"output={output}"]) == 1
    error = capsys.readouterr().err
    assert f"--set parts.init=demo: {config}.toml starts parts.{part} from scratch" in error
    assert f"--set parts.{part}=demo" in error
    assert not output.exists()


def test_init_is_heard_where_nothing_starts_from_scratch_or_it_is_said_twice():
    heard = [
        ({"parts": {"init": "x"}}, ["parts.init=x"]),
        ({"parts": {"init": "x", "vae": "runs/vae"}}, ["parts.init=x"]),  # another checkpoint, by its name
        ({"parts": {"init": "x", "unet": "preset:16k"}}, ["parts.init=x", "parts.unet=preset:16k"]),
        ({"parts": {"init": "x", "unet": "preset:16k"}}, []),  # both stand in the file
        ({"parts": {"init": "", "unet": "preset:16k"}}, ["parts.init="]),
        ({"parts": {"init": "x", "feature_extractor": {"hop_length": 9}}}, ["parts.init=x"]),
    ]
    for table, overrides in heard:
        refuse_unheard_init(table, overrides, "run.toml")
    with pytest.raises(ConfigError, match=r"run\.toml starts parts\.unet, parts\.vae from scratch"):
        refuse_unheard_init(
            {"parts": {"init": "x", "unet": {"a": 1}, "vae": "preset:16k"}}, ["parts.init = x"], "run.toml"
        )


@pytest.mark.parametrize(
    ("component", "stage"), [("unet", "ldm"), ("vae", "vae"), ("vocoder", "vocoder"), ("clap", "clap")]
)
def test_a_run_that_nobody_has_made_is_named_with_the_command_that_makes_it(
    component, stage, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    said = rf"parts\.{component} .*'runs/demo/x'.*musicldm train {stage} CONFIG --set output=runs/demo/x"
    with pytest.raises(CheckpointError, match=said):
        clap_part("runs/demo/x") if component == "clap" else network_part(component, "runs/demo/x", 0)


def test_an_unknown_stage_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected one of vae, vocoder, clap, ldm"):
        run_stage("unet", tmp_path / "c.toml")


def test_a_preset_or_a_table_starts_from_scratch_by_the_seed():
    table = {
        "in_channels": 1, "out_channels": 1, "block_out_channels": [8], "layers_per_block": 1, "latent_channels": 2,
        "norm_num_groups": 4, "scaling_factor": 1.0,
    }  # fmt: skip
    state = torch.get_rng_state()
    first, again, other = (network_part("vae", table, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.scratch
    weight = first.network.quant.weight
    assert torch.equal(weight, again.network.quant.weight)
    assert not torch.equal(weight, other.network.quant.weight)
    assert not network_part("vae", str(TINY), 0).scratch
    with pytest.raises(ConfigError, match=r"parts\.vae: got 'preset:48k', expected preset:16k"):
        network_part("vae", "preset:48k", 0)
    with pytest.raises(ConfigError, match="unknown key heads"):
        network_part("vae", {**table, "heads": 3}, 0)
    del table["layers_per_block"]
    with pytest.raises(
        ConfigError, match="1 problem\n  missing key layers_per_block: there are in_channels, out_"
    ):
        network_part("vae", table, 0)


def test_the_decay_ramps_to_its_value():
    assert [ramped(0.9999, n) for n in (1, 2, 90)] == [2 / 11, 3 / 12, 91 / 100]
    assert ramped(0.9999, 89989) < 0.9999
    assert ramped(0.9999, 89992) == 0.9999
    assert ramped(0.5, 100) == 0.5
    with pytest.raises(ValueError, match="got decay 1, expected 0 <= decay < 1"):
        MovingAverage(nn.Linear(1, 1), 1)


def test_the_average_is_the_recurrence_and_buffers_are_the_newest():
    module = nn.BatchNorm1d(1)
    average = MovingAverage(module, 0.9)
    expected = 1.0
    for n, value in enumerate([4.0, -2.0, 7.0], start=1):
        with torch.no_grad():
            module.weight.fill_(value)
            module.num_batches_tracked.fill_(n)
        average.update()
        expected = ramped(0.9, n) * expected + (1 - ramped(0.9, n)) * value
    with average.applied():
        assert module.weight.item() == pytest.approx(expected, rel=1e-6)
        assert module.num_batches_tracked.item() == 3
    assert module.weight.item() == 7.0
    again = MovingAverage(nn.BatchNorm1d(1), 0.9)
    again.load_state_dict(average.state_dict())
    assert again.updates == 3
    with pytest.raises(ValueError, match="averages other tensors"):
        MovingAverage(nn.Linear(1, 1), 0.9).load_state_dict(average.state_dict())


def test_without_a_decay_the_average_is_the_newest_weights():
    module = nn.Linear(3, 3)
    average = MovingAverage(module, 0.0)
    with torch.no_grad():
        module.weight.mul_(3)
    average.update()
    newest = module.weight.clone()
    with average.applied():
        assert torch.equal(module.weight, newest)
