"""The contrastive loss: partners together, everything else apart."""

import math

import torch

from aura.embeddings.joint.losses import contrastive_loss

SCALE = torch.tensor(1.0)


def test_vectors_without_a_preference_lose_what_guessing_one_of_the_concepts_loses():
    vectors = torch.ones(8, 4) / 2
    concepts = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    assert math.isclose(contrastive_loss(vectors, vectors, concepts, concepts, SCALE).item(), math.log(4), rel_tol=1e-6)


def test_items_of_one_concept_are_no_negatives_of_each_other():
    vectors = torch.eye(2).repeat_interleave(3, dim=0)
    concepts = torch.tensor([0, 0, 0, 1, 1, 1])
    loss = contrastive_loss(vectors, vectors, concepts, concepts, torch.tensor(50.0))
    assert loss.item() < 1e-6


def test_items_without_a_partner_do_not_count_but_are_negatives():
    one, other = torch.eye(3), torch.eye(3)
    concepts = torch.tensor([0, 1, 2])
    full = contrastive_loss(one, other[:2], concepts, concepts[:2], SCALE)
    rows = (one[:2] @ other[:2].T).logsumexp(dim=1).mean() - 1
    columns = (other[:2] @ one.T).logsumexp(dim=1).mean() - 1
    assert math.isclose(full.item(), ((rows + columns) / 2).item(), rel_tol=1e-6)


def test_a_batch_without_any_partner_loses_nothing_and_has_a_gradient_of_zero():
    one = torch.eye(2, requires_grad=True)
    loss = contrastive_loss(one, torch.eye(2), torch.tensor([0, 1]), torch.tensor([2, 3]), SCALE)
    loss.backward()
    assert loss.item() == 0
    assert one.grad.abs().max() == 0
