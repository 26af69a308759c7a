"""Prompts -> tokens: RoBERTa's byte-level byte pairs, by the tokenizers library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from weights_convert.reading import CheckpointError, read_json
from weights_convert.writing import write_json

__all__ = ["SPECIAL", "Tokenizer"]

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3 in every RoBERTa; <mask> comes last
MASK = "<mask>"
ROLES = {
    "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>",
    "unk_token": "<unk>", "mask_token": MASK,
}  # fmt: skip
UNLIMITED = 1 << 62


@dataclass(frozen=True)
class Tokenizer:
    """`<s> prompt </s>`, never padded, never cut: `CLAP` does both.

    core: the library's object. max_length: tokens of a prompt that the files allow, its two ends included.
    """

    core: tokenizers.Tokenizer
    max_length: int = UNLIMITED

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """From tokenizer.json, or vocab.json and merges.txt, with tokenizer_config.json beside them.

        Of a tokenizer.json only vocabulary, merges and special tokens count: how RoBERTa splits and frames
        text is known. Raises CheckpointError if files are missing or broken, or the special tokens are not
        RoBERTa's.
        """
        config = read_json(folder / "tokenizer_config.json")
        spaced = bool(config.get("add_prefix_space", False))
        try:
            if (folder / "tokenizer.json").is_file():
                core = tokenizers.Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
            else:
                core = _from_pairs(folder / "vocab.json", folder / "merges.txt")
            core.no_padding()
            core.no_truncation()
            core.normalizer = None
            core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
            core.post_processor = processors.RobertaProcessing(
                ("</s>", SPECIAL.index("</s>")), ("<s>", SPECIAL.index("<s>")), True, spaced
            )
        except Exception as error:  # the library raises nothing more exact
            raise CheckpointError(f"{folder} holds no tokenizer that can be read: {error}") from error
        if not isinstance(core.model, models.BPE) or [core.token_to_id(t) for t in SPECIAL] != [0, 1, 2, 3]:
            raise CheckpointError(
                f"{folder} holds another tokenizer than RoBERTa's: expected byte pairs, with {SPECIAL} as "
                "tokens 0 to 3"
            )
        return cls(core, max(2, int(min(config.get("model_max_length", UNLIMITED), UNLIMITED))))

    def __len__(self) -> int:
        """One more than the largest id: rows that a table of embeddings has to have."""
        return 1 + max(self.core.get_vocab().values())

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text, its two ends included."""
        return [encoding.ids for encoding in self.core.encode_batch(list(texts))]

    def text(self, ids: Sequence[int]) -> str:
        """What tokens stand for; special ones are left out."""
        return str(self.core.decode(list(ids)))

    def save_pretrained(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, which transformers reads too."""
        folder.mkdir(parents=True, exist_ok=True)
        self.core.save(str(folder / "tokenizer.json"))
        config = {
            **ROLES,
            "tokenizer_class": "RobertaTokenizer",
            "add_prefix_space": self.core.pre_tokenizer.add_prefix_space,
            "model_max_length": self.max_length,
        }
        write_json(folder / "tokenizer_config.json", config)


def _from_pairs(vocab: Path, merges: Path) -> tokenizers.Tokenizer:
    core = tokenizers.Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([*SPECIAL, tokenizers.AddedToken(MASK, lstrip=True, normalized=False)])
    return core
