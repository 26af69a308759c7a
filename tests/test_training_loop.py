"""The loop on a toy stage: what a resumed run, accumulation, signals and bad numbers do to it."""

from __future__ import annotations

import logging
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from training_toys import ToyData, ToyStage, curve, same, toy_config, weights

from musicldm import audio
from musicldm.io.distributed import Group
from musicldm.training.log import read_log
from musicldm.training.loop import Outcome, Trainer
from musicldm.training.order import Order
from musicldm.training.settings import Evaluate, Previews, Save
from musicldm.training.turns import NonFiniteLossError

ACCUMULATED = 1e-6  # sums of gradients in another order, in float32


def train(
    folder: Path, stage: ToyStage | None = None, spoil=None, *, resume=False, held_out=None, **changes
) -> Outcome:
    config = toy_config(folder, **changes)
    return Trainer(stage or ToyStage(), config, Group(), ToyData(spoil=spoil), held_out).run(resume=resume)


class BrokenOffError(Exception):
    pass


def breaking_off(items: int):
    """Raises in place of item number `items`, like a power cut between two steps or inside one."""
    calls = 0

    def spoil(epoch, index, item):
        nonlocal calls
        calls += 1
        if calls > items:
            raise BrokenOffError

    return spoil


def stopping(items: int, number=signal.SIGTERM):
    calls = 0

    def spoil(epoch, index, item):
        nonlocal calls
        calls += 1
        if calls == items:
            os.kill(os.getpid(), number)

    return spoil


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder, stage = tmp_path_factory.mktemp("whole"), ToyStage()
    train(folder, stage)
    return folder, stage


@pytest.mark.parametrize("items", [1, 12, 13, 17, 24, 30, 31])
def test_a_run_that_breaks_off_anywhere_continues_bit_for_bit(tmp_path, whole, items):
    with pytest.raises(BrokenOffError):
        train(tmp_path, spoil=breaking_off(items))
    torch.rand(3)  # another global state than the run left: nothing may depend on it
    again = ToyStage()
    train(tmp_path, again, resume=True)
    folder, stage = whole
    assert same(weights(again), weights(stage))
    assert again.scale == stage.scale
    assert curve(tmp_path) == curve(folder)
    assert same(torch.load(tmp_path / "generator.pt"), torch.load(folder / "generator.pt"))


def test_a_checkpoint_is_what_makes_it_continue(tmp_path, whole):
    """The control of the test above: with another start, and no checkpoint to put it right, it differs."""
    other = ToyStage(seed=9)
    train(tmp_path, other)
    assert not same(weights(other), weights(whole[1]))


def test_a_resumed_run_takes_everything_from_the_checkpoint(tmp_path, whole):
    train(tmp_path, steps=3)
    other = ToyStage(seed=9)
    train(tmp_path, other, resume=True)
    assert same(weights(other), weights(whole[1]))


def test_a_learning_rate_changed_on_the_way_is_the_one_that_is_used(tmp_path):
    train(tmp_path, steps=3)
    faster = ToyStage()
    for turn in faster.turns:
        turn.optimizer.param_groups[0]["lr"] = 0.5
    train(tmp_path, faster, resume=True)
    rates = [line["generate/lr"] for line in read_log(tmp_path / "log.jsonl") if "generate/lr" in line]
    assert rates == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2, 0.5, 0.5, 0.5, 0.5, 0.5])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_the_run(tmp_path, whole, number, caplog):
    before = signal.getsignal(number)
    outcome = train(tmp_path, spoil=stopping(18, number))
    assert "finishing the step at hand" in caplog.text
    assert outcome == Outcome(5, stopped=True, checkpoint=tmp_path / "checkpoints" / "step-00000005.pt")
    assert outcome.checkpoint.exists()
    assert (tmp_path / "generator.pt").exists()
    assert signal.getsignal(number) is before
    again = ToyStage()
    assert not train(tmp_path, again, resume=True).stopped
    assert same(weights(again), weights(whole[1]))


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    train(tmp_path)
    with pytest.raises(ValueError, match="holds a run at step 8: go on with --resume, or give another"):
        train(tmp_path)


def test_resuming_nothing_starts_from_the_beginning_and_says_so(tmp_path, whole, caplog):
    stage = ToyStage()
    train(tmp_path, stage, resume=True)
    assert "holds no checkpoint yet" in caplog.text
    assert same(weights(stage), weights(whole[1]))


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path, whole, caplog):
    with pytest.raises(BrokenOffError):
        train(tmp_path, spoil=breaking_off(28))
    newest = tmp_path / "checkpoints" / "step-00000006.pt"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    again = ToyStage()
    train(tmp_path, again, resume=True)
    assert re.search(r"step-00000006\.pt is damaged.*falling back", caplog.text)
    assert same(weights(again), weights(whole[1]))
    assert curve(tmp_path) == curve(whole[0])


def test_all_checkpoints_damaged_is_an_error(tmp_path):
    train(tmp_path)
    for path in (tmp_path / "checkpoints").glob("*.pt"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="no checkpoint is whole; remove the folder"):
        train(tmp_path, resume=True)


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path):
    """The loss on held-out items grows at once, for these targets: the first evaluation stays the best."""

    class Worsening(ToyStage):
        calls = 0

        def evaluate(self, batch, draws):
            self.calls += 1
            return {"loss": torch.tensor(float(self.calls))}

    train(
        tmp_path,
        Worsening(),
        steps=8,
        save=Save(every=2, keep=2),
        evaluate=Evaluate(every=1),
        held_out=ToyData(3),
    )
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == [f"step-{step:08d}{suffix}" for step in (1, 6, 8) for suffix in (".json", ".pt")]


def test_the_best_weights_are_written_when_asked_for(tmp_path):
    class Best(ToyStage):
        calls = 0

        def evaluate(self, batch, draws):
            self.calls += 1
            if self.calls == 2:
                self.then = {k: v.clone() for k, v in self.networks["generator"].state_dict().items()}
            return {"loss": torch.tensor(abs(2.0 - self.calls))}

    for model, expected in (("best", True), ("last", False)):
        stage = Best()
        saved = Save(every=100, model=model)
        train(tmp_path / model, stage, save=saved, evaluate=Evaluate(every=2), held_out=ToyData(4))
        assert same(torch.load(tmp_path / model / "generator.pt"), stage.then) == expected


def test_evaluation_repeats_itself_and_does_not_touch_the_training(tmp_path, whole):
    stage = ToyStage()
    train(tmp_path, stage, evaluate=Evaluate(every=1), held_out=ToyData(6), loop={"ema": 0.0}, steps=4)
    logged = [line["held_out/loss"] for line in read_log(tmp_path / "log.jsonl") if "held_out/loss" in line]
    assert len(set(logged)) == 4
    trained = ToyStage()
    assert not same(weights(stage), weights(trained))
    train(tmp_path / "plain", trained, loop={"ema": 0.0}, steps=4)
    assert same(weights(stage), weights(trained))


@pytest.mark.parametrize("micro", [1, 2, 3])
def test_accumulated_micro_batches_equal_one_batch(tmp_path, micro):
    class NoDropout(ToyStage):
        def __init__(self) -> None:
            super().__init__()
            for network in self.networks.values():
                network[2].p = 0.0

    at_once, parts, fewer = NoDropout(), NoDropout(), NoDropout()
    train(tmp_path / "whole", at_once)
    train(tmp_path / "parts", parts, loop={"micro_batch": micro})
    train(tmp_path / "fewer", fewer, loop={"batch_size": 2})
    assert [len(files) for files in parts.seen[:2]] == [micro, min(micro, 4 - micro)]
    for name, tensor in weights(at_once).items():
        assert torch.allclose(weights(parts)[name], tensor, rtol=0, atol=ACCUMULATED)
    assert not same(weights(fewer), weights(at_once))  # the control: a smaller batch is another run


def test_a_loss_that_is_not_finite_names_step_files_and_checkpoint(tmp_path):
    def spoil(epoch, index, item):
        if index == 3 and epoch == 2:
            item["x"] = item["x"] * float("nan")

    stage = ToyStage()
    order = Order(8, 4, 0)
    broken = next(step for step in range(4, 6) if any(p.index == 3 for p in order.batch(step)))
    with pytest.raises(NonFiniteLossError) as raised:
        train(tmp_path, stage, spoil, loop={"micro_batch": 1})
    assert f"step {broken + 1}, turn 'judge'" in str(raised.value)
    assert "made from clip3.wav; the last good checkpoint is" in str(raised.value)
    assert "step-00000003.pt" in str(raised.value)
    assert all(torch.isfinite(tensor).all() for tensor in weights(stage).values())
    with pytest.raises(NonFiniteLossError, match="there is no checkpoint yet"):
        train(tmp_path / "first", ToyStage(), lambda e, i, item: item["x"].fill_(float("inf")))


def test_turns_start_when_they_say_and_share_nothing(tmp_path):
    train(tmp_path, steps=4)
    lines = read_log(tmp_path / "log.jsonl")
    assert ["judge/loss" in line for line in lines] == [False, False, True, True]
    assert [line["generate/lr"] for line in lines] == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2, 1e-2])


def test_clipping_bounds_what_the_optimiser_sees(tmp_path):
    class Plain(ToyStage):
        def __init__(self) -> None:
            super().__init__()
            sgd = torch.optim.SGD(self.networks["generator"].parameters(), lr=1.0)
            self.turns = (type(self.turns[1])("generate", sgd, self.generator_loss),)

    before, after = Plain(), Plain()
    train(tmp_path, after, steps=1, loop={"clip_norm": 0.01})
    moved = torch.cat(
        [(a - b).flatten() for a, b in zip(weights(after).values(), weights(before).values(), strict=True)]
    )
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-4)
    assert read_log(tmp_path / "log.jsonl")[0]["generate/norm"] > 0.02


def test_the_global_generator_is_left_alone(tmp_path):
    state = torch.get_rng_state()
    train(tmp_path, steps=3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_precision_is_of_the_passes_and_weights_stay_float32(tmp_path, precision, dtype):
    seen = []

    class Watching(ToyStage):
        def fake(self, batch, draws):
            made = super().fake(batch, draws)
            seen.append(made.dtype)
            return made

    stage = Watching()
    train(
        tmp_path,
        stage,
        steps=3,
        loop={"precision": precision},
        evaluate=Evaluate(every=3),
        held_out=ToyData(2),
    )
    assert set(seen) == {dtype}
    assert {tensor.dtype for tensor in weights(stage).values()} == {torch.float32}


def test_workers_cut_the_same_clips(tmp_path, whole):
    stage = ToyStage()
    train(tmp_path, stage, loop={"workers": 1})
    assert same(weights(stage), weights(whole[1]))


def test_previews_are_files_to_hear_and_see(tmp_path):
    train(tmp_path, steps=4, preview=Previews(every=2, clips=1))
    names = sorted(path.name for path in (tmp_path / "previews").iterdir())
    assert names == [f"step-0000000{s}-clip0-wav{suffix}" for s in (2, 4) for suffix in (".png", ".wav")]
    wave, rate = audio.read(tmp_path / "previews" / names[1])
    assert rate == 16000
    assert wave.shape == (160,)
    assert (tmp_path / "previews" / names[0]).read_bytes().startswith(b"\x89PNG")


def test_every_clip_comes_once_in_each_pass_and_passes_differ():
    order = Order(10, 4, seed=1)
    places = [place for step in range(5) for place in order.batch(step)]
    passes = [[p.index for p in places if p.epoch == e] for e in (0, 1)]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(10))
    assert passes[0] != passes[1]
    assert Order(3, 8, 0).batch(1)[0].epoch == 2  # a batch may be larger than the data


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_processes_share_a_step_without_overlap(world):
    order = Order(10, 6, seed=1)
    parts = [p for rank in range(world) for part in order.micro_batches(3, rank, world, 2) for p in part]
    assert parts == order.batch(3)


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(ValueError, match=r"loop\.batch_size: got 4, expected a multiple of the 3 processes"):
        Trainer(ToyStage(), toy_config(Path("unused")), Group(0, 3), ToyData())


def test_a_log_line_cut_short_by_a_crash_is_left_out(tmp_path, whole, caplog):
    path = tmp_path / "log.jsonl"
    path.write_bytes((whole[0] / "log.jsonl").read_bytes() + b'{"step": 9, "gen')
    with caplog.at_level(logging.WARNING):
        assert len(read_log(path)) == 8
    assert "left out" in caplog.text
