from __future__ import annotations

import torch

from musicldm.ranking import rank


def test_candidates_are_ranked_inside_their_prompt():
    """The case in which Diffusers 0.33.1 returns one prompt's clips under another's name: B's clips "
    "fit A better."""
    prompts = torch.eye(2)
    heard = torch.tensor([[0.1, 0.0], [0.3, 0.0], [0.2, 0.0], [0.9, 0.4], [0.9, 0.5], [0.9, 0.6]])
    scores, order = rank(heard, prompts)
    assert order.tolist() == [[1, 2, 0], [2, 1, 0]]
    assert torch.allclose(scores, torch.tensor([[0.3, 0.2, 0.1], [0.6, 0.5, 0.4]]))


def test_equal_scores_keep_their_order():
    assert rank(torch.ones(4, 3), torch.ones(1, 3))[1].tolist() == [[0, 1, 2, 3]]
