"""LoRA: what an adapter changes and what it leaves alone, its file, the pipeline's part in it."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import torch._dynamo.testing
from helpers import draw, relative
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from musicldm import MusicLDMPipeline, lora
from musicldm.lora import LoRAConfig
from musicldm.lora_file import load_adapter, save_adapter
from musicldm.unet import UNet, UNetConfig
from weights_convert.reading import CheckpointError

SMALL = UNetConfig(
    in_channels=8, out_channels=8, block_out_channels=(8, 16), heads=(0, 2), layers_per_block=1, cond_dim=512,
    norm_num_groups=4, norm_eps=1e-5, sample_size=8,
)  # fmt: skip
CONFIG = LoRAConfig(rank=2, alpha=4.0, targets=("qkv", "out"))
# A product of rank r beside the weight, or added into it: the same sums in another order. The tiny U-Net is
# scaled so that every path matters, and makes much of float32's last bit (measured 6e-5 and 3e-3).
MERGED, SAMPLED = 1e-3, 2e-2
EXACT = 1e-10  # in float64 the order of the sums does not show


@pytest.fixture
def unet(tiny):
    return copy.deepcopy(tiny.unet)


def trained(unet, config=CONFIG, seed=1):
    """An adapter that does something: `up` drawn, as if learnt."""
    generator = torch.Generator().manual_seed(seed)
    parts = lora.attach(unet, config, generator)
    for part in parts:
        part.up.data.normal_(0, 0.3, generator=generator)
    return parts


@pytest.fixture
def file(unet, tmp_path):
    other = copy.deepcopy(unet)
    trained(other)
    save_adapter(tmp_path / "a.safetensors", other, base_model="tiny")
    return tmp_path / "a.safetensors"


def run(unet, seed=3, dtype=torch.float32):
    with torch.no_grad():
        return unet(draw(2, 8, 8, 4, seed=seed).to(dtype), 7, draw(2, 512, seed=seed + 1).to(dtype))


def edited(file, path, change=lambda tensors: None, about=lambda about: None):
    """The file with its tensors and metadata changed."""
    tensors = load_file(file)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    told = json.loads(metadata["musicldm_lora"])
    change(tensors)
    about(told)
    save_file(tensors, path, metadata={**metadata, "musicldm_lora": json.dumps(told)})
    return path


def test_a_new_adapter_changes_nothing_bit_for_bit(unet):
    before = run(unet)
    lora.attach(unet, CONFIG)
    assert torch.equal(run(unet), before)


def test_the_adapter_is_alpha_over_rank_up_down_for_each_of_q_k_v(unet):
    """Against the definition, written out for one projection at a time."""
    parts = trained(unet)
    linear = unet.get_submodule("mid.attn.attn1.qkv")
    part = linear.adapters[0]
    assert part in parts
    x = draw(3, 5, linear.in_features)
    c = linear.out_features // 3
    for k in range(3):
        weight = linear.weight[k * c : (k + 1) * c] + 4.0 / 2 * part.up[k] @ part.down[k]
        torch.testing.assert_close(linear(x)[..., k * c : (k + 1) * c], x @ weight.T)


@pytest.mark.parametrize("targets", [("qkv",), ("out",), ("qkv", "out")])
def test_only_the_targeted_projections_are_touched(unet, targets):
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    trained(unet, LoRAConfig(rank=1, alpha=1.0, targets=targets))
    assert all(
        torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items() if name in before
    )
    lora.merge(unet)
    after = unet.state_dict()
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    assert changed == {f"{name}.weight" for name in lora.targeted(unet, targets)}
    assert all(name.split(".")[-2] in targets for name in changed)
    assert len(changed) > 3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, MERGED), (torch.float64, EXACT)])
def test_merged_is_as_attached_and_detached_is_the_base_bit_for_bit(unet, dtype, tolerance):
    unet.to(dtype)
    base, keys = run(unet, dtype=dtype), list(unet.state_dict())
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    trained(unet)
    trained(unet, LoRAConfig(rank=3, alpha=1.0, targets=("out",)), seed=5)
    beside = run(unet, dtype=dtype)
    assert relative(beside, base) > 100 * MERGED  # the adapters do something
    lora.merge(unet)
    assert relative(run(unet, dtype=dtype), beside) < tolerance
    assert list(unet.state_dict()) == keys
    assert lora.is_merged(unet)
    assert not lora.is_attached(unet)
    lora.detach(unet)
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items())
    assert torch.equal(run(unet, dtype=dtype), base)
    assert not lora.is_merged(unet)


@pytest.mark.parametrize("merged", [False, True])
def test_detaching_after_a_change_of_dtype_gives_the_base_in_that_dtype(unet, merged):
    expected = {name: tensor.bfloat16() for name, tensor in unet.state_dict().items()}
    trained(unet)
    if merged:
        lora.merge(unet)
    unet.to(torch.bfloat16)
    lora.detach(unet)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in unet.state_dict().items())


def test_gradients_reach_the_adapter_alone(unet):
    unet.requires_grad_(False)
    parts = trained(unet)
    unet(draw(1, 8, 8, 4), 7, draw(1, 512)).square().mean().backward()
    mine = {id(p) for part in parts for p in part.parameters()}
    assert all((p.grad is not None) == (id(p) in mine) for p in unet.parameters())
    assert all(p.grad.abs().max() > 0 for part in parts for p in part.parameters())


@pytest.mark.parametrize("merged", [False, True])
def test_one_graph_and_the_scale_does_not_recompile(merged):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet(SMALL)  # the tiny checkpoint's takes a minute to trace
    trained(unet)
    if merged:
        lora.merge(unet)
    torch._dynamo.reset()
    graphs = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(unet, backend=graphs, fullgraph=True)
    for scale in (1.0, 0.5):
        with lora.scaled(unet, scale):
            assert relative(run(compiled), run(unet)) < MERGED
    assert graphs.frame_count == 1


def test_a_file_brings_the_adapter_back_and_several_add_up(unet, file, tmp_path):
    base = run(unet)
    other = copy.deepcopy(unet)
    trained(other)
    load_adapter(unet, file)
    assert torch.equal(run(unet), run(other))
    assert not any(
        p.requires_grad for linear in lora.live(unet).values() for p in linear.adapters.parameters()
    )
    load_adapter(unet, file, -1.0)  # and takes itself away again
    assert relative(run(unet), base) < MERGED
    assert not torch.equal(run(unet), run(other))
    with pytest.raises(ValueError, match="none, or several"):
        save_adapter(tmp_path / "two.safetensors", unet, base_model="tiny")


def test_the_file_is_spelt_as_peft_and_the_hub_do(file):
    held = load_file(file)
    place = "unet.mid_block.attentions.0.transformer_blocks.0.attn1"
    for projection in ("to_q", "to_k", "to_v", "to_out.0"):
        down, up = (held[f"{place}.{projection}.lora_{x}.weight"] for x in "AB")
        assert down.shape[0] == up.shape[1] == 2
    with safe_open(file, framework="pt") as opened:
        peft = json.loads(opened.metadata()["lora_adapter_metadata"])
    modules = ["to_k", "to_out.0", "to_q", "to_v"]
    assert peft == {"unet.r": 2, "unet.lora_alpha": 4.0, "unet.target_modules": modules}


def test_another_base_is_refused_unless_asked_for(unet, file):
    other = copy.deepcopy(unet)
    with torch.no_grad():
        other.mid.attn.attn1.qkv.weight.copy_(unet.mid.attn.attn1.qkv.weight.roll(1, dims=0))
    with pytest.raises(
        CheckpointError, match=r"was trained on 'tiny', .*mid\.attn\.attn1\.qkv first.*any_base=True"
    ):
        load_adapter(other, file)
    assert not lora.is_attached(other)
    load_adapter(other, file, any_base=True)
    assert lora.is_attached(other)
    load_adapter(unet.to(torch.bfloat16), file)  # the same base, rounded


def test_a_second_adapter_sees_the_base_not_the_first(unet, file):
    load_adapter(unet, file, 10.0)
    load_adapter(unet, file)
    lora.merge(unet)
    with pytest.raises(ValueError, match="merged into it; detach them first"):
        load_adapter(unet, file)


DAMAGED = {
    "a tensor is missing": (lambda t: t.pop(next(iter(t))), None, r"missing .*lora_A\.weight"),
    "a tensor too many": (
        lambda t: t.update({"unet.x.to_q.lora_A.weight": torch.zeros(2, 3)}),
        None,
        "unexpected",
    ),
    "a wrong shape": (
        lambda t: t.update(
            {k: v[:, :-1].contiguous() for k, v in t.items() if k.endswith("to_q.lora_A.weight")}
        ),
        None,
        r"wrong shape  .*to_q.*expected \(2, ",
    ),
    "not finite": (lambda t: next(iter(t.values())).fill_(torch.nan), None, "NaN or infinity"),
    "two ranks": (
        lambda t: t.update(
            {k: torch.zeros(5, v.shape[1]) for k, v in t.items() if "mid" in k and "lora_A" in k}
        ),
        None,
        r"ranks \[2, 5\]",
    ),
    "another rank said": (lambda t: None, lambda a: a.update(rank=4), r"it says rank and targets \(4, "),
    "alpha is no number": (lambda t: None, lambda a: a.update(alpha="4"), "metadata is damaged"),
    "no probes": (lambda t: None, lambda a: a.pop("base_probes"), "metadata is damaged"),
    "NaN probes": (
        lambda t: None,
        lambda a: a.update(base_probes={k: float("nan") for k in a["base_probes"]}),
        "has other weights",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_refused_and_nothing_is_changed(unet, file, tmp_path, case):
    change, about, message = DAMAGED[case]
    bad = edited(file, tmp_path / "bad.safetensors", change, about or (lambda a: None))
    with pytest.raises(CheckpointError, match=message):
        load_adapter(unet, bad)
    assert not lora.is_attached(unet)


def test_files_of_other_kinds_are_refused(unet, file, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
        load_adapter(unet, cut)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_adapter(unet, tmp_path / "none.safetensors")
    save_file({"conv.weight": torch.zeros(2, 2)}, tmp_path / "no.safetensors")
    with pytest.raises(CheckpointError, match="does not say what it was trained on"):
        load_adapter(unet, tmp_path / "no.safetensors")
    with pytest.raises(CheckpointError, match="is no adapter for attention"):
        load_adapter(unet, tmp_path / "no.safetensors", any_base=True)
    foreign = tmp_path / "foreign.safetensors"  # as another tool writes it: alpha is then the rank
    save_file(load_file(file), foreign)
    load_adapter(unet, foreign, any_base=True)
    half = copy.deepcopy(run(unet))
    lora.detach(unet)
    load_adapter(unet, file, 0.5)  # this one says alpha 4 for rank 2
    assert relative(run(unet), half) < MERGED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, "rank 0"),
        ({"rank": 2.0}, "rank 2.0"),
        ({"alpha": 0}, "alpha 0"),
        ({"alpha": float("nan")}, "alpha nan"),
        ({"targets": ()}, "targets"),
        ({"targets": ("q",)}, "targets"),
    ],
)
def test_configs_that_mean_nothing_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        LoRAConfig(**{"rank": 2, "alpha": 4.0, "targets": ("qkv",), **change})


# ---- the pipeline ------------------------------------------------------------------------------------


@pytest.fixture
def own(tiny):
    """A pipeline whose U-Net is its own."""
    return MusicLDMPipeline(**{**tiny.components, "unet": copy.deepcopy(tiny.unet)})


def clip(pipe, **options):
    short = {"audio_length_in_s": 0.32, "num_inference_steps": 2, "output_type": "latent", "seed": 0}
    return pipe("a song", **short, **options).audios


def test_the_pipeline_loads_scales_and_unloads(own, file):
    before = clip(own)
    own.load_lora(file, 0.5)
    half = clip(own)
    own.unload_lora()
    assert torch.equal(clip(own), before)
    own.load_lora(file)
    full = clip(own)
    assert relative(full, before) > 10 * SAMPLED
    assert relative(clip(own, cross_attention_kwargs={"scale": 0.5}), half) < SAMPLED
    assert relative(clip(own, cross_attention_kwargs={"scale": 0.0}), before) < SAMPLED
    assert torch.equal(clip(own), full)  # a call's scale is that call's


def test_what_the_pipeline_refuses(own, file, tmp_path):
    with pytest.raises(ValueError, match="no adapter is loaded"):
        clip(own, cross_attention_kwargs={"scale": 0.5})
    with pytest.raises(TypeError, match="scale: got '1', expected a number"):
        own.load_lora(file, "1")
    own.load_lora(file)
    with pytest.raises(ValueError, match='got gligen, expected "scale" alone'):
        clip(own, cross_attention_kwargs={"scale": 0.5, "gligen": 1})
    with pytest.raises(ValueError, match="expected a finite number"):
        clip(own, cross_attention_kwargs={"scale": float("inf")})
    with pytest.raises(ValueError, match=r"pipe\.unload_lora\(\) to write the model without"):
        own.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_merged_model_is_saved_as_what_it_sounds_like(own, file, tmp_path):
    own.load_lora(file)
    beside = clip(own)
    lora.merge(own.unet)
    with pytest.raises(ValueError, match="merged ones cannot be scaled"):
        clip(own, cross_attention_kwargs={"scale": 0.5})
    own.save_pretrained(tmp_path / "out")
    again = MusicLDMPipeline.from_pretrained(tmp_path / "out")
    assert torch.equal(clip(again), clip(own))
    assert relative(clip(again), beside) < SAMPLED
