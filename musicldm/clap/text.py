"""CLAP's text tower: RoBERTa, the state of its first token, and a projection into the space that text and
audio share.

Needs torch and einops only; this file can be copied out and used alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

__all__ = ["PAD", "TextTower", "TextTowerConfig"]

PAD = 1  # id of the padding token, as in every RoBERTa; positions are counted from the one after it


@dataclass(frozen=True, kw_only=True)
class TextTowerConfig:
    """Sizes, under the hub's names. `projection_dim` is the width of the space shared with audio."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    projection_dim: int
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"TextTowerConfig: hidden_size {self.hidden_size} does not split into "
                f"{self.num_attention_heads} heads"
            )

    @property
    def max_tokens(self) -> int:
        """Of a prompt, the two that stand at its ends included: the rows before PAD + 1 are never used."""
        return self.max_position_embeddings - PAD - 1


class TextTower(nn.Module):
    """Tokens -> one embedding a prompt, not normalised.

    The tables of words, positions and kinds of token are zeros until weights are loaded or
    `reset_parameters` draws them.

    Source: Liu et al. 2019 (RoBERTa, arXiv 1907.11692); Wu et al. 2023 (CLAP, arXiv 2211.06687), section 2.1;
    transformers, modeling_clap.py, ClapTextModel and ClapProjectionLayer. Differs: queries, keys and values
    are one product.
    """

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        self.config = config
        d, joint = config.hidden_size, config.projection_dim
        # zeros, not nn.Embedding: its normal draw on the meta device imports torch's compiler, two seconds
        self.words = nn.Parameter(torch.zeros(config.vocab_size, d))
        self.positions = nn.Parameter(torch.zeros(config.max_position_embeddings, d))
        self.kinds = nn.Parameter(torch.zeros(config.type_vocab_size, d))
        self.norm = nn.LayerNorm(d, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.pool = nn.Linear(d, d)
        self.project1 = nn.Linear(d, joint)
        self.project2 = nn.Linear(joint, joint)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids: (b, n) tokens, PAD where a prompt has ended; mask: (b, n), True where one is -> (b, d).

        Raises ValueError if there are more tokens than positions.
        """
        if ids.shape[1] > self.config.max_tokens:
            raise ValueError(
                f"TextTower: got {ids.shape[1]} tokens, expected at most {self.config.max_tokens}"
            )
        words = ids != PAD
        places = words.cumsum(1) * words + PAD
        x = F.embedding(ids, self.words, PAD) + F.embedding(places, self.positions, PAD) + self.kinds[0]
        x = self.dropout(self.norm(x))
        for layer in self.layers:
            x = layer(x, mask[:, None, None, :])
        pooled = torch.tanh(self.pool(x[:, 0]))
        projected: Tensor = self.project2(F.relu(self.project1(pooled)))
        return projected

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw fresh weights from torch's global generator, as transformers starts a ClapTextModel."""
        for table in (self.words, self.positions, self.kinds):
            table.normal_(std=0.02)
        std = (2 * self.config.hidden_size * self.config.num_hidden_layers) ** -0.5
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.weight.normal_(std=std)
                module.bias.zero_()


class Layer(nn.Module):
    """Self-attention and two linear layers, each added to its input and normalised after that."""

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        d, inner = config.hidden_size, config.intermediate_size
        self.heads = config.num_attention_heads
        self.attention_dropout = config.attention_probs_dropout_prob
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.norm1 = nn.LayerNorm(d, eps=config.layer_norm_eps)
        self.ff1 = nn.Linear(d, inner)
        self.ff2 = nn.Linear(inner, d)
        self.norm2 = nn.LayerNorm(d, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (b, n, d); mask: (b, 1, 1, n), True for keys that may be seen -> (b, n, d)."""
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        dropped = self.attention_dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropped)
        x = self.norm1(x + self.dropout(self.out(rearrange(seen, "b h n d -> b n (h d)"))))
        x = self.norm2(x + self.dropout(self.ff2(F.gelu(self.ff1(x)))))
        return x
