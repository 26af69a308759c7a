"""Checkpoints that are broken, absurd or malicious: one clear error that names file and key, and nothing else.

Each case damages a copy of the tiny checkpoint. `DAMAGE` reads as a list: what is done, then what the error
must say. The limits stand for "no hang" and "no allocation": both are far above what a right refusal takes.
"""

from __future__ import annotations

import os
import resource
import shutil
from contextlib import contextmanager

import pytest
import torch
from damage import (
    BIN,
    CONV,
    UNET,
    VAE,
    Exploit,
    a_folder_instead,
    cut,
    edit,
    header,
    header_length,
    looped,
    mapped,
    pickled,
    put,
    raw,
    removed,
    sharded,
    spoil,
    swapped,
    tensors,
    text,
    without,
)
from helpers import TINY, little_work
from safetensors.torch import load_file

from musicldm.checkpoint import load_components

SECONDS = 10  # a refusal takes milliseconds; a hang has no limit
HUGE = 10**12


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(TINY, tmp_path / "tiny", copy_function=shutil.copyfile)


INDEX = "unet/diffusion_pytorch_model.safetensors.index.json"
CLAP, VOCODER, FRONT = (
    "text_encoder/config.json",
    "vocoder/config.json",
    "feature_extractor/preprocessor_config.json",
)

DAMAGE = {
    # JSON
    "half a config": (text("unet/config.json", '{"act_fn": '), "unet/config.json", "JSON"),
    "an empty config": (text("vae/config.json", ""), "vae/config.json", "JSON"),
    "a config that is a list": (text("vae/config.json", "[1]"), "vae/config.json", "object", "list"),
    "a config of bytes": (raw("unet/config.json", b"\xff\xfe\x00"), "unet/config.json", "cannot be read"),
    "a key twice": (text("vae/config.json", '{"act_fn": "silu", "act_fn": "relu"}'), "vae/config.json", "act_fn", "twice"),
    "NaN in JSON": (text("vae/config.json", '{"scaling_factor": NaN}'), "vae/config.json", "NaN"),
    "a number of 5000 digits": (text("vae/config.json", '{"a": ' + "9" * 5000 + "}"), "vae/config.json", "JSON"),
    "JSON nested 100,000 deep": (text("vae/config.json", "[" * 100_000), "vae/config.json", "JSON"),
    "a config of 100 MB": (lambda root: os.truncate(root / "vae/config.json", 100 << 20), "vae/config.json", "too many"),
    "no config": (removed("vocoder/config.json"), "vocoder/config.json", "missing"),
    "a folder for a config": (a_folder_instead("vae/config.json"), "vae/config.json", "cannot be read"),
    "no model_index": (removed("model_index.json"), "model_index.json", "missing"),
    "a model_index of another pipeline": (edit("model_index.json", _class_name="StableDiffusionPipeline"), "model_index.json", "StableDiffusionPipeline"),
    "a model_index without vocoder": (without("model_index.json", "vocoder"), "model_index.json", "vocoder"),
    # values of configs
    "an unknown key": (edit("unet/config.json", run_this="now"), "unet/config.json", "unknown", "run_this"),
    "a missing key": (without("unet/config.json", "norm_eps"), "unet/config.json", "missing", "norm_eps"),
    "text for a count": (edit("unet/config.json", in_channels="8"), "unet/config.json", "in_channels", "'8'"),
    "true for a count": (edit("unet/config.json", in_channels=True), "unet/config.json", "in_channels"),
    "a fractional count": (edit("vae/config.json", latent_channels=8.5), "vae/config.json", "latent_channels", "8.5"),
    "null for a list": (edit("vae/config.json", block_out_channels=None), "vae/config.json", "block_out_channels"),
    "a negative count": (edit("vae/config.json", layers_per_block=-1), "vae/config.json", "layers_per_block", "-1"),
    "10^12 channels": (edit("unet/config.json", block_out_channels=[HUGE] * 4), "unet/config.json", "block_out_channels"),
    "10^12 latent rows": (edit("unet/config.json", sample_size=HUGE), "unet/config.json", "sample_size"),
    "10^9 layers": (edit("unet/config.json", layers_per_block=10**9), "unet/config.json", "layers_per_block"),
    "10,000 levels": (edit("vae/config.json", block_out_channels=[8] * 10_000), "vae/config.json", "block_out_channels"),
    "10^9 upsampling stages": (edit(VOCODER, upsample_rates=[1] * 10_000), VOCODER, "upsample_rates"),
    "a latent scale of 0": (edit("vae/config.json", scaling_factor=0), "vae/config.json", "scaling_factor"),
    "a latent scale of 10^400": (text("vae/config.json", '{"scaling_factor": 1e400}'), "vae/config.json", "scaling_factor"),
    "another activation": (edit("unet/config.json", act_fn="gelu"), "unet/config.json", "act_fn", "gelu"),
    "groups that do not divide": (edit("unet/config.json", norm_num_groups=7), "unet/config.json", "norm groups"),
    "heads that do not divide": (edit("unet/config.json", attention_head_dim=7), "unet/config.json", "heads"),
    "two head counts for four levels": (edit("unet/config.json", attention_head_dim=[8, 8]), "unet/config.json", "attention_head_dim"),
    "rates without kernels": (edit(VOCODER, upsample_rates=[5, 4]), VOCODER, "upsample_kernel_sizes"),
    "a vocoder that normalises": (edit(VOCODER, normalize_before=True), VOCODER, "normalize_before"),
    "10^12 words": (edit(CLAP, text_config__vocab_size=HUGE), CLAP, "vocab_size"),
    "10^12 text channels": (edit(CLAP, text_config__hidden_size=HUGE), CLAP, "hidden_size"),
    "10^9 audio blocks": (edit(CLAP, audio_config__depths=[10**9] * 4), CLAP, "depths"),
    "65,536 audio blocks": (edit(CLAP, audio_config__depths=[65536] * 4), CLAP, "depths"),
    "a CLAP without text": (edit(CLAP, text_config=None), CLAP, "text_config"),
    "a fused CLAP": (edit(CLAP, audio_config__enable_fusion=True), CLAP, "enable_fusion"),
    "a quantised CLAP": (edit(CLAP, quantization_config={"quant_method": "x"}), CLAP, "quantization_config"),
    "a CLAP with code": (edit(CLAP, auto_map={"AutoModel": "evil--evil.Model"}), CLAP, "auto_map"),
    "CLAP kernels from the hub": (edit(CLAP, text_config___attn_implementation="evil/kernel"), CLAP, "attn_implementation"),
    "a tokenizer with code": (edit("tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["e--e.T", None]}), "tokenizer_config.json", "auto_map"),
    "a tokenizer of another kind": (edit("tokenizer/tokenizer_config.json", tokenizer_class="LlamaTokenizer"), "tokenizer_config.json", "LlamaTokenizer"),
    "a broken tokenizer": (text("tokenizer/tokenizer.json", "{}"), "tokenizer"),
    "more tokens than embeddings": (edit(CLAP, text_config__vocab_size=400), "460 tokens", "400"),
    "10^12 mel bins": (edit(FRONT, feature_size=HUGE), FRONT, "feature_size"),
    "10^12 samples": (edit(FRONT, nb_max_samples=HUGE), FRONT, "nb_max_samples"),
    "an extractor with code": (edit(FRONT, auto_map={"AutoFeatureExtractor": "e--e.F"}), FRONT, "auto_map"),
    "more mel bins than the model hears": (edit(FRONT, feature_size=128), FRONT, "128", "64"),
    "an unknown scheduler": (edit("scheduler/scheduler_config.json", _class_name="EvilScheduler"), "scheduler_config.json", "EvilScheduler"),
    "10^12 diffusion steps": (edit("scheduler/scheduler_config.json", num_train_timesteps=HUGE), "scheduler_config.json", "num_train_timesteps"),
    # weights
    "the wrong weights": (lambda root: shutil.copyfile(root / VAE, root / UNET), UNET, "another component"),
    "swapped folders": (swapped("unet", "vae"), "AutoencoderKL", "UNet2DConditionModel", "swapped"),
    "swapped vocoder and CLAP": (swapped("vocoder", "text_encoder"), "SpeechT5HifiGan", "swapped"),
    "no weights": (removed(UNET), "no weights of unet", "diffusion_pytorch_model.safetensors"),
    "a missing tensor": (tensors(UNET, lambda held: held.pop(CONV)), UNET, "missing", CONV),
    "an extra tensor": (tensors(UNET, put("backdoor.weight", torch.zeros(1))), UNET, "unexpected", "backdoor.weight"),
    "a transposed tensor": (tensors(UNET, put("time_embedding.linear_1.weight", torch.zeros(8, 32))), UNET, "wrong shape", "time_embedding.linear_1.weight"),
    "an empty tensor": (tensors(UNET, put(CONV, torch.zeros(0))), UNET, "wrong shape", CONV),
    "a tensor of integers": (tensors(UNET, put(CONV, torch.zeros(8, 8, 3, 3, dtype=torch.int8))), UNET, "wrong type", CONV),
    "a tensor of 8-bit floats": (tensors(UNET, put(CONV, torch.zeros(8, 8, 3, 3, dtype=torch.float8_e4m3fn))), UNET, CONV, "type"),
    "NaN": (tensors(VAE, spoil("encoder.conv_in.weight", float("nan"))), VAE, "NaN", "encoder.conv_in.weight"),
    "infinity": (tensors(VAE, spoil("encoder.conv_in.weight", -float("inf"))), VAE, "infinity", "encoder.conv_in.weight"),
    "a missing tensor of CLAP": (tensors("text_encoder/model.safetensors", lambda held: held.pop("logit_scale_a")), "text_encoder", "missing", "logit_scale_a"),
    "an extra tensor of CLAP": (tensors("text_encoder/model.safetensors", put("x", torch.zeros(1))), "text_encoder", "unexpected", "x"),
    "a mis-shaped tensor of CLAP": (tensors("text_encoder/model.safetensors", put("logit_scale_a", torch.zeros(7))), "text_encoder", "wrong shape", "logit_scale_a"),
    # bytes of weights
    **{f"{size} bytes of weights": (cut(UNET, size), UNET, "broken") for size in (0, 1, 7, 8, 9, 1000, 100_000, -4, -1)},
    "a header of 2^60 bytes": (header_length(UNET, lambda n: 1 << 60), UNET, "broken"),
    "a header of the whole file": (header_length(UNET, lambda n: 3087960 - 8), UNET),
    "a header one byte short": (header_length(UNET, lambda n: n - 1), UNET),
    "a header of 0 bytes": (header_length(UNET, lambda n: 0), UNET, "JSON"),
    "a tensor twice in the header": (header(UNET, lambda h: "{" + h[1:].split("},", 2)[1] + "}," + h[1:]), UNET, "twice"),
    "a tensor of another length than its shape": (header(UNET, lambda h: h.replace("[8,8,3,3]", "[8,8,3,4]", 1)), UNET, "8, 8, 3, 4"),
    "a tensor of 10^18 values": (header(UNET, lambda h: h.replace("[8,8,3,3]", "[1000000000,1000000000]", 1)), UNET),
    "an unknown dtype": (header(UNET, lambda h: h.replace('"F32"', '"F31"', 1)), UNET, "F31"),
    "text for weights": (text(UNET, "version https://git-lfs.github.com/spec/v1\n"), UNET, "broken"),
    # pickles
    "a pickle that runs a command": (pickled(BIN, lambda root: {"a": Exploit(root / "marker")}), BIN, "not run", "posix.system"),
    "a pickle with a command beside tensors": (pickled(BIN, lambda root: load_file(root / VAE) | {"z": [Exploit(root / "marker")]}), BIN, "not run"),
    "a pickle of no mapping": (pickled(BIN, lambda root: [torch.zeros(1)]), BIN, "tensors by name"),
    "a pickle of nested mappings": (pickled(BIN, lambda root: {"state": {"a": torch.zeros(1)}}), BIN, "tensors by name", "state"),
    # indices and links
    "an index that climbs out": (sharded(mapped(CONV, "../vae/diffusion_pytorch_model.safetensors")), INDEX, CONV, "bare name"),
    "an index to /etc": (sharded(mapped(CONV, "/etc/passwd")), INDEX, "/etc/passwd", "bare name"),
    "an index to a pickle": (sharded(mapped(CONV, "weights.bin")), INDEX, "weights.bin"),
    "an index to a number": (sharded(mapped(CONV, 3)), INDEX, CONV),
    "an index to a missing shard": (sharded(mapped(CONV, "c.safetensors")), "c.safetensors"),
    "an index to the wrong shard": (sharded(mapped(CONV, "b.safetensors")), "safetensors", CONV, "disagree"),
    "an index that leaves a tensor out": (sharded(lambda index: index["weight_map"].pop(CONV)), "disagree", CONV),
    "an index without a map": (sharded(lambda index: index.pop("weight_map")), INDEX, "weight_map"),
    "weights that link to themselves": (looped(UNET), "diffusion_pytorch_model.safetensors", "symbolic link"),
    "a folder that links to itself": (looped("vae"), "vae"),
    "a config that links to itself": (looped("vae/config.json"), "vae/config.json", "cannot be read"),
}  # fmt: skip


@contextmanager
def no_harm(root):
    """No hang, no code run, no crash on the way out; a crash of the process needs no test."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with little_work(SECONDS):
        yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB: a gigabyte
    assert not (root / "marker").exists()


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_one_clear_error(folder, case):
    damage, *said = DAMAGE[case]
    damage(folder)
    with no_harm(folder), pytest.raises(ValueError, match=r".") as error:
        load_components(folder)
    message = str(error.value)
    assert all(fragment in message for fragment in said), message
    assert len(message) < 10_000


def test_enough_cases():
    assert len(DAMAGE) > 80


def test_the_undamaged_copy_loads(folder):
    assert load_components(folder).keys() == load_components(TINY).keys()
