"""Any bytes and any JSON are read, or refused with an error that names the file: no crash, no hang."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import TINY, little_work
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from musicldm.checkpoint import CheckpointError, empty_network
from weights_convert.hub_config import ConfigError
from weights_convert.reading import read_shapes, read_tensors

HUGE = 10**12

SMALL = save(
    {"a": torch.arange(6.0).reshape(2, 3), "b.c": torch.ones(4, dtype=torch.float16), "i": torch.arange(3)}
)
SECONDS = 2  # a refusal takes milliseconds
FUZZ = settings(max_examples=150, deadline=None, derandomize=True)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(HUGE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "fuzz.safetensors"


def reads_or_refuses(path):
    got, refusal = None, ""
    try:
        with little_work(SECONDS):
            got = read_tensors(path)
    except CheckpointError as error:
        refusal = str(error)
    if got is None:
        assert path.name in refusal
    else:
        assert all(isinstance(tensor, torch.Tensor) for tensor in got.values())
        assert {name: t.shape for name, t in got.items()} == {
            name: t.shape for name, t in read_shapes(path).items()
        }


@FUZZ
@given(data=st.data())
def test_any_bytes_are_read_or_refused(scratch, data):
    content = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    cut_at = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    scratch.write_bytes(bytes(content[:cut_at]) + data.draw(st.binary(max_size=8)))
    reads_or_refuses(scratch)


@pytest.mark.parametrize("size", range(len(SMALL)))
def test_a_file_cut_anywhere_is_refused(scratch, size):
    scratch.write_bytes(SMALL[:size])
    with pytest.raises(CheckpointError, match=scratch.name):
        read_tensors(scratch)


@FUZZ
@given(
    entry=st.dictionaries(
        st.sampled_from(["dtype", "shape", "data_offsets", "x"]), json_values | st.just([0, 4])
    )
)
def test_any_header_is_read_or_refused(scratch, entry):
    text = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | entry}).encode()
    scratch.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    reads_or_refuses(scratch)


CONFIGS = {name: json.loads((TINY / name / "config.json").read_text()) for name in ("unet", "vae", "vocoder")}


@settings(FUZZ, max_examples=100)
@given(name=st.sampled_from(sorted(CONFIGS)), data=st.data())
def test_any_config_is_built_or_refused(name, data):
    config = dict(CONFIGS[name])
    for key in data.draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=3)):
        config[key] = data.draw(json_values)
    module, refusal = None, ""
    try:
        module, _ = empty_network(name, config, "fuzz.json")
    except ConfigError as error:
        refusal = str(error)
    if module is None:
        assert "fuzz.json" in refusal
    else:
        assert all(parameter.is_meta for parameter in module.parameters())
