"""A tokenizer learnt from captions: byte-level byte pairs, as RoBERTa has them, for a CLAP from scratch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer

from musicldm.clap.tokenizer import ROLES, SPECIAL, Tokenizer
from weights_convert.reading import read_json
from weights_convert.writing import write_json

__all__ = ["train_tokenizer"]

BYTES = 256


def train_tokenizer(captions: Iterable[str], vocab_size: int, max_length: int) -> Tokenizer:
    """A tokenizer of at most `vocab_size` tokens (fewer if the captions have no more pairs to merge).

    Every text can be written in it, since every byte is a token. The same captions give the same tokenizer.
    max_length: tokens of a prompt, the two at its ends included. Raises ValueError if the vocabulary has no
    room for the 256 bytes and 5 special tokens.
    """
    if vocab_size < BYTES + len(SPECIAL) + 1:
        raise ValueError(
            f"tokenizer: got a vocabulary of {vocab_size}, expected at least {BYTES + len(SPECIAL) + 1}, for "
            "every byte and the special tokens"
        )
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        sorted(captions),  # pairs of equal counts are merged in the order in which they were met
        vocab_size=vocab_size - 1,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bpe.save_model(name)  # vocab.json and merges.txt
        vocab = read_json(folder / "vocab.json")
        write_json(folder / "vocab.json", {**vocab, ROLES["mask_token"]: len(vocab)})
        write_json(folder / "tokenizer_config.json", {"model_max_length": max_length})
        return Tokenizer.load(folder)
