"""The loop on a toy stage: what one process, many, accumulation and a resumed run have in common."""

from __future__ import annotations

import torch
from training_toys import ToyData, ToyStage, toy_config

from musicldm.training.distributed import Group
from musicldm.training.log import read_log
from musicldm.training.loop import Trainer


def weights(stage) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in stage.networks.state_dict().items()}


def same(a, b) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def curve(folder) -> list[dict]:
    return [
        {k: v for k, v in line.items() if k not in ("seconds", "memory_mb")}
        for line in read_log(folder / "log.jsonl")
    ]


def test_a_run_that_breaks_off_anywhere_continues_bit_for_bit(tmp_path):
    whole = ToyStage()
    Trainer(whole, toy_config(tmp_path / "whole"), Group(), ToyData()).run()

    class Broken(Exception):
        pass

    for broken_at in range(1, 8):
        folder = tmp_path / str(broken_at)
        calls = 0

        def break_off(epoch, index, item, at=broken_at):
            nonlocal calls
            calls += 1
            if calls > 4 * at:
                raise Broken

        try:
            Trainer(ToyStage(), toy_config(folder), Group(), ToyData(spoil=break_off)).run()
        except Broken:
            pass
        torch.rand(3)  # another global state than the run left: nothing may depend on it
        again = ToyStage(seed=9)
        Trainer(again, toy_config(folder), Group(), ToyData()).run(resume=True)
        if broken_at < 3:  # before the first checkpoint: a run of its own
            continue
        assert same(weights(again), weights(whole))
        assert again.scale == whole.scale
        assert curve(folder) == curve(tmp_path / "whole")
        assert same(torch.load(folder / "generator.pt"), torch.load(tmp_path / "whole" / "generator.pt"))
