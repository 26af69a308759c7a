"""The engine, and the tables over every tensor of the published files (on the meta device)."""

from __future__ import annotations

import pytest
import torch
from originals import PREFIXES, manifest, on_meta, under

from musicldm.checkpoint import empty_network, hub_tensors
from weights_convert import diffusers_layout, original_layout
from weights_convert.clap_layout import clap_facts, clap_tensors
from weights_convert.hub_config import UNET
from weights_convert.mapping import (
    COPY,
    FOLD,
    ONES,
    SQUEEZE,
    MappingError,
    Table,
    convert,
    invert,
    rows,
    rule,
    source_names,
)

FULL_SIZE = {  # tensors per network of the published checkpoint, in the hub's layout
    "unet": 690,
    "vae": 204,
    "vocoder": 196,
    "text_encoder": 553,  # and position_ids, a constant that is ignored
}
UNET_TABLE = original_layout.unet(2, (False, True, True, True))
TABLES = {
    "unet": UNET_TABLE,
    "ema": None,  # depends on the targets
    "vae": original_layout.vae(3),
    "vocoder": original_layout.VOCODER,
    "text_encoder": original_layout.CLAP,
}
HUB_MANIFESTS = {
    "unet": "diffusers_unet",
    "ema": "diffusers_unet",
    "vae": "diffusers_vae",
    "vocoder": "vocoder",
    "text_encoder": "clap",
}
OP_NAMES = {"copy": "copy", "zeros": "zeros", "ones": "ones", "1x1 convolution to linear": "squeeze"}


def hub_targets(network):
    targets = on_meta(HUB_MANIFESTS[network])
    return {name: t for name, t in targets.items() if not diffusers_layout.CLAP.why_ignored(name)}


def table_of(network):
    return TABLES[network] or original_layout.ema(UNET_TABLE, hub_targets("unet"))


def full(prefix):
    return under(prefix, on_meta("original_full_ckpt"))


@pytest.mark.parametrize("network", TABLES)
def test_every_tensor_of_the_authors_full_checkpoint_is_used_or_dropped_for_a_reason(network):
    table, sources, targets = table_of(network), full(PREFIXES[network]), hub_targets(network)
    filled = convert(table, sources, targets)
    assert filled.keys() == targets.keys()
    used = set(source_names(table, targets))
    assert all(name in used or table.why_ignored(name) for name in sources)


@pytest.mark.parametrize("network", TABLES)
def test_the_tables_are_the_mapping_that_was_derived_from_the_authors_modules(network):
    expected = manifest("mapping_full_ckpt_to_diffusers")["unet" if network == "ema" else network]
    table = table_of(network)
    for target in hub_targets(network):
        found, slots = table.find(target)
        spelling, wanted = found.spellings[0], expected[target]
        source = wanted.get("from_ema" if network == "ema" else "from")
        assert [PREFIXES[network] + name for name in spelling.names(slots)] == [source] * bool(source)
        op = spelling.op.name.replace("rows ", "rows_")
        assert OP_NAMES.get(op, op) == wanted["op"]


def test_the_whole_checkpoint_is_accounted_for_690_204_196_554():
    mapping = manifest("mapping_full_ckpt_to_diffusers")
    assert {n: len(mapping[n]) for n in FULL_SIZE} == FULL_SIZE | {"text_encoder": 554}
    assert {n: len(hub_targets(n)) for n in FULL_SIZE} == FULL_SIZE
    (left_out,) = mapping["text_encoder"].keys() - hub_targets("text_encoder").keys()
    assert diffusers_layout.CLAP.why_ignored(left_out)


def test_whatever_the_full_checkpoint_loses_has_a_reason():
    for name in manifest("mapping_full_ckpt_to_diffusers")["dropped_from_full_ckpt"]:
        prefix = next((p for p in PREFIXES.values() if name.startswith(p)), None)
        table = next((table_of(n) for n, p in PREFIXES.items() if p == prefix), None)
        why = table.why_ignored(name[len(prefix) :]) if table else original_layout.TOP_LEVEL.get(name)
        assert why, name


@pytest.mark.parametrize("network", TABLES)
def test_no_rule_of_the_authors_layout_has_rotted(network):
    assert table_of(network).unused(list(hub_targets(network))) == []


@pytest.mark.parametrize("network", TABLES)
def test_no_reason_to_drop_has_rotted(network):
    sides = {"vae": "original_vae", "text_encoder": "original_clap"}
    names = list(full(PREFIXES[network])) + (list(on_meta(sides[network])) if network in sides else [])
    optional = {"text_branch.embeddings.token_type_ids"}  # saved by other versions of transformers
    table = table_of(network)
    for pattern, why in table.ignore.items():
        assert pattern in optional or any(table.why_ignored(name) == why for name in names), pattern


@pytest.mark.parametrize(
    ("network", "name", "prefix"),
    [
        ("vae", "original_vae", ""),
        ("vocoder", "original_hifigan", ""),
        ("text_encoder", "original_clap", ""),
    ],
)
def test_the_authors_side_files_fill_the_same_targets(network, name, prefix):
    targets = hub_targets(network)
    assert convert(table_of(network), under(prefix, on_meta(name)), targets).keys() == targets.keys()


# -- hub -> our modules


def published_config(network):
    if network == "unet":
        config = dict(UNET.required) | dict(UNET.fixed) | {
            "in_channels": 8, "out_channels": 8, "block_out_channels": [128, 256, 384, 640],
            "layers_per_block": 2, "norm_num_groups": 32, "norm_eps": 1e-5, "sample_size": 256,
            "attention_head_dim": 8, "cross_attention_dim": [128, 256, 384, 640],
            "down_block_types": ["DownBlock2D"] + 3 * ["CrossAttnDownBlock2D"],
            "up_block_types": 3 * ["CrossAttnUpBlock2D"] + ["UpBlock2D"],
            "projection_class_embeddings_input_dim": 512,
        }  # fmt: skip
        return config
    if network == "vae":
        return {
            "in_channels": 1, "out_channels": 1, "block_out_channels": [128, 256, 512], "layers_per_block": 2,
            "latent_channels": 8, "norm_num_groups": 32, "scaling_factor": 1.0,
            "down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3,
        }  # fmt: skip
    return {
        "model_in_dim": 64, "sampling_rate": 16000, "upsample_initial_channel": 1024,
        "upsample_rates": [5, 4, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 8, 4, 4],
        "resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3,
        "leaky_relu_slope": 0.1, "normalize_before": False,
    }  # fmt: skip


@pytest.mark.parametrize("network", ["unet", "vae", "vocoder"])
def test_our_modules_at_the_published_size_take_the_hubs_tensors_and_give_them_back(network):
    module, table = empty_network(network, published_config(network), "the published config")
    hub, state = on_meta(HUB_MANIFESTS[network]), module.state_dict()
    ours = convert(table, hub, state)
    assert table.unused(list(state)) == []
    back = invert(table, ours)
    assert {n: t.shape for n, t in back.items()} == {n: t.shape for n, t in hub.items()}


@pytest.mark.parametrize("network", ["unet", "vae", "vocoder"])
def test_the_tensors_a_hub_config_calls_for_are_those_of_the_published_file(network):
    found, hub = hub_tensors(network, published_config(network), "x"), on_meta(HUB_MANIFESTS[network])
    assert {n: (t.shape, t.dtype) for n, t in found.items()} == {
        n: (t.shape, t.dtype) for n, t in hub.items()
    }


def test_the_tensors_a_clap_config_calls_for_are_those_of_transformers_own_class():
    audio = {"patch_embeds_hidden_size": 128, "depths": [2, 2, 12, 2]}
    found = clap_tensors(clap_facts({"text_config": {}, "audio_config": audio}, "x"))
    expected = hub_targets("text_encoder")
    assert {n: (t.shape, t.dtype) for n, t in found.items()} == {
        n: (t.shape, t.dtype) for n, t in expected.items()
    }


# -- the engine itself


def toy_table(*rules):
    return Table("toy", rules)


def test_all_problems_come_in_one_error():
    toy = toy_table(rule("a", "x"), rule("b", "y"), rule("c", "z"))
    sources = {"x": torch.zeros(2), "z": torch.zeros(1, dtype=torch.int64), "w": torch.zeros(1)}
    with pytest.raises(MappingError) as error:
        convert(toy, sources, {"a": torch.zeros(3), "b": torch.zeros(1), "c": torch.zeros(1)}, where="f.bin")
    message = str(error.value)
    assert "f.bin" in message
    for problem in ("missing      y", "wrong shape  x (2,)", "wrong type   z", "unexpected   w"):
        assert problem in message


def test_a_file_of_another_component_is_named_as_such():
    with pytest.raises(MappingError, match="another component"):
        convert(toy_table(rule("a", "x")), {"q": torch.zeros(1)}, {"a": torch.zeros(1)})


def test_a_source_cannot_be_used_twice():
    with pytest.raises(MappingError, match="used twice   x"):
        convert(
            toy_table(rule("a", "x"), rule("b", "x")),
            {"x": torch.zeros(1)},
            {k: torch.zeros(1) for k in "ab"},
        )


def test_shares_of_rows_must_all_be_used():
    toy = toy_table(rule("q", "qkv", op=rows(0, 3)), rule("k", "qkv", op=rows(1, 3)))
    with pytest.raises(MappingError, match="partly used  qkv: 2/3"):
        convert(toy, {"qkv": torch.zeros(6)}, {"q": torch.zeros(2), "k": torch.zeros(2)})


def test_shares_of_rows_are_joined_again_in_order():
    toy = toy_table(*(rule(name, "qkv", op=rows(i, 3)) for i, name in enumerate("qkv")))
    whole = torch.arange(12.0).reshape(6, 2)
    parts = convert(toy, {"qkv": whole}, {name: torch.zeros(2, 2) for name in "qkv"})
    assert torch.equal(parts["k"], whole[2:4])
    back = invert(toy, dict(reversed(parts.items())))
    assert torch.equal(back["qkv"], whole)
    with pytest.raises(MappingError, match="rows are missing of qkv"):
        invert(toy, {"q": parts["q"]})


def test_concatenation_and_squeeze_invert_bit_exactly():
    toy = toy_table(rule("qkv", "q", "k", "v"), rule("w", "conv", op=SQUEEZE))
    sources = {name: torch.randn(2, 3) for name in "qkv"} | {"conv": torch.randn(4, 3, 1, 1)}
    ours = convert(toy, sources, {"qkv": torch.zeros(6, 3), "w": torch.zeros(4, 3)})
    back = invert(toy, ours)
    assert all(torch.equal(back[name], tensor) for name, tensor in sources.items())


@pytest.mark.parametrize("spelling", [("w_g", "w_v"), ("w.original0", "w.original1")])
def test_weight_norm_is_folded_as_torch_folds_it(spelling):
    conv = torch.nn.utils.parametrizations.weight_norm(torch.nn.ConvTranspose1d(3, 2, 4), dim=0)
    g, v = conv.parametrizations.weight.original0, conv.parametrizations.weight.original1
    folding = rule("w", "w").also("w_g", "w_v", op=FOLD).also("w.original0", "w.original1", op=FOLD)
    sources = dict(zip(spelling, (g.detach(), v.detach()), strict=True))
    folded = convert(toy_table(folding), sources, {"w": torch.zeros(3, 2, 4)})["w"]
    torch.testing.assert_close(
        folded, conv.weight.detach(), rtol=1e-6, atol=1e-7
    )  # another order of products
    with pytest.raises(MappingError, match="missing      w"):
        convert(toy_table(folding), {spelling[0]: g}, {"w": torch.zeros(3, 2, 4)})


def test_constants_need_no_source_and_leave_none():
    toy = toy_table(rule("scale", op=ONES), rule("a", "a"))
    filled = convert(toy, {"a": torch.zeros(1)}, {"scale": torch.zeros(3), "a": torch.zeros(1)})
    assert filled["scale"].tolist() == [1, 1, 1]
    assert invert(toy, filled).keys() == {"a"}


def test_an_operation_without_inverse_says_so():
    with pytest.raises(MappingError, match="'fold weight norm' of w has no inverse"):
        invert(toy_table(rule("w", "g", "v", op=FOLD)), {"w": torch.zeros(1)})


def test_a_name_with_no_rule_or_two_is_an_error():
    with pytest.raises(MappingError, match="0 rules for 'b'"):
        toy_table(rule("a", "x")).find("b")
    with pytest.raises(MappingError, match="2 rules for 'a'"):
        toy_table(rule("a", "x"), rule("{p}", "{p}")).find("a")


def test_a_placeholder_means_the_same_wherever_it_stands():
    toy = toy_table(rule("{i}.copy.{i}", "{i}"))
    assert source_names(toy, ["3.copy.3"]) == ["3"]
    with pytest.raises(MappingError, match="0 rules"):
        toy.find("3.copy.4")


def test_names_are_no_regular_expressions():
    with pytest.raises(MappingError, match="0 rules"):
        toy_table(rule("a.b", "x")).find("a_b")


def test_an_unused_rule_is_found():
    assert [r.target for r in toy_table(rule("a", "a"), rule("gone", "b")).unused(["a"])] == ["gone"]


def test_averages_whose_names_collide_are_refused():
    colliding = toy_table(rule("a", "x.1"), rule("b", "x1"))
    with pytest.raises(MappingError, match="one EMA name"):
        original_layout.ema(colliding, ["a", "b"])


def test_nothing_is_computed_on_the_meta_device():
    toy = toy_table(rule("w", "g", "v", op=FOLD), rule("c", "c", op=COPY))
    sources = {"g": torch.zeros(2, 1), "v": torch.zeros(2, 3), "c": torch.zeros(1)}
    sources = {name: tensor.to("meta") for name, tensor in sources.items()}
    filled = convert(toy, sources, {"w": torch.zeros(2, 3), "c": torch.zeros(1)})
    assert all(tensor.is_meta for tensor in filled.values())
