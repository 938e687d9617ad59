"""Positions of the two networks: what moves with the tokens, what a decoder without positions still knows."""

import math

import pytest
import torch

from models.relay.config import TeacherConfig
from models.relay.network import Decoder, LoopedTransformer
from models.relay.network_config import NetworkConfig
from models.relay.positions import Fire

SMALL = NetworkConfig(layers=2, width=16, heads=2, feed_forward_width=32)


def test_fire_equals_equation_16_written_out():
    torch.manual_seed(0)
    fire = Fire(heads=3)
    bias = fire(0, 6, torch.device("cpu"), causal=True)
    c, length = fire.scale.item(), fire.length.item()
    for i in range(6):
        for j in range(i + 1):
            share = math.log(c * (i - j) + 1) / math.log(c * max(length, i) + 1)
            by_hand = fire.mlp(torch.tensor([share]))
            torch.testing.assert_close(bias[:, i, j], by_hand)
    torch.testing.assert_close(fire(4, 2, torch.device("cpu"), causal=True), bias[:, 4:])


@pytest.mark.parametrize("positions", ["rope", "rope+alibi", "alibi", "nope", "fire"])
def test_a_decoder_says_the_same_with_its_cache_and_without(positions: str):
    torch.manual_seed(0)
    network = Decoder(SMALL.but(positions=positions), 9).eval()
    tokens = torch.randint(2, 9, (3, 12))
    whole = network(tokens)
    caches = network.empty_caches(3, 12)
    pieces = [network(tokens[:, a:b], caches) for a, b in ((0, 5), (5, 6), (6, 9), (9, 12))]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", ["rope", "rope+alibi", "alibi", "nope", "fire"])
def test_a_decoder_does_not_look_ahead(positions: str):
    torch.manual_seed(0)
    network = Decoder(SMALL.but(positions=positions), 9).eval()
    tokens = torch.randint(2, 9, (2, 8))
    other = tokens.clone()
    other[:, 5:] = 2
    torch.testing.assert_close(network(other)[:, :5], network(tokens)[:, :5])
    assert not torch.allclose(network(other)[:, 5:], network(tokens)[:, 5:])


def test_without_positions_the_teacher_cannot_tell_an_order():
    torch.manual_seed(0)
    tokens, order = torch.randint(2, 9, (1, 7)), torch.randperm(7)
    for positions, equal in (("nope", True), ("rope", False), ("alibi", False), ("fire", False)):
        network = LoopedTransformer(TeacherConfig(network=SMALL.but(positions=positions)), 9).eval()
        arguments = ((1, 1), torch.tensor([1]), 1)
        straight, shuffled = network(tokens, *arguments)[0], network(tokens[:, order], *arguments)[0]
        assert torch.allclose(straight[:, order], shuffled, atol=1e-5) == equal


def test_relative_positions_do_not_see_where_the_problem_stands():
    torch.manual_seed(0)
    slopes = SMALL.but(positions="rope+alibi", alibi_slopes=(40.0, 40.0))  # so steep that each sees its neighbours only
    network = LoopedTransformer(TeacherConfig(network=slopes), 12).eval()
    short = torch.tensor([[0, 0, 0, 5, 3, 6, 2]])
    long = torch.cat([torch.zeros(1, 4, dtype=torch.long), short], dim=1)
    one = ((1,), torch.tensor([0]), 1)
    torch.testing.assert_close(network(long, *one)[0][..., -4:, :], network(short, *one)[0][..., -4:, :])


def test_slopes_are_those_of_the_alibi_paper_where_none_are_given():
    assert NetworkConfig(heads=8, positions="alibi").slopes == tuple(2.0**-k for k in range(1, 9))
    assert NetworkConfig(heads=4, positions="rope").slopes == ()
