"""A tokenizer learnt from captions: byte-level byte pairs, as RoBERTa has them, for a CLAP from scratch."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import ByteLevelBPETokenizer

from musicldm.clap import load_tokenizer

__all__ = ["train_tokenizer"]

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3, where RoBERTa has them; <mask> comes last
ROLES = {
    "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>",
    "unk_token": "<unk>", "mask_token": "<mask>",
}  # fmt: skip
BYTES = 256


def train_tokenizer(captions: Iterable[str], vocab_size: int, max_length: int) -> Any:
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
    with tempfile.TemporaryDirectory() as folder:
        bpe.save_model(folder)  # vocab.json and merges.txt, the layout that every version reads
        vocab_file = Path(folder) / "vocab.json"
        vocab = json.loads(vocab_file.read_text(encoding="utf-8"))
        vocab_file.write_text(
            json.dumps({**vocab, ROLES["mask_token"]: len(vocab)}, ensure_ascii=False), encoding="utf-8"
        )
        config = {**ROLES, "tokenizer_class": "RobertaTokenizer", "model_max_length": max_length}
        (Path(folder) / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return load_tokenizer(Path(folder))
