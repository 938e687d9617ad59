"""Rotary positions, linear biases and the cache, against closed forms and the uncached pass."""

import cmath

import pytest
import torch

from models.common.transformer import Block, KeyValueCache, alibi, positions, rotate

HEAD_WIDTH = 8


@pytest.fixture(autouse=True)
def _one_seed():
    torch.manual_seed(0)


def test_rope_turns_pairs_as_complex_numbers():
    base, count = 100.0, 5
    x = torch.randn(1, 1, count, HEAD_WIDTH)
    turned = rotate(x, positions(0, count, HEAD_WIDTH, rope_base=base, causal=False))
    for s in range(count):
        for c in range(HEAD_WIDTH // 2):
            angle = s * base ** (-2 * c / HEAD_WIDTH)
            pair = complex(x[0, 0, s, c], x[0, 0, s, c + HEAD_WIDTH // 2]) * cmath.exp(1j * angle)
            assert float(turned[0, 0, s, c]) == pytest.approx(pair.real, abs=1e-5)
            assert float(turned[0, 0, s, c + HEAD_WIDTH // 2]) == pytest.approx(pair.imag, abs=1e-5)


def test_rope_scores_depend_on_the_distance_alone():
    query, key = torch.randn(HEAD_WIDTH), torch.randn(HEAD_WIDTH)
    everywhere = positions(0, 40, HEAD_WIDTH, rope_base=100.0, causal=False)
    queries = rotate(query.expand(1, 1, 40, HEAD_WIDTH), everywhere)[0, 0]
    keys = rotate(key.expand(1, 1, 40, HEAD_WIDTH), everywhere)[0, 0]
    scores = queries @ keys.T
    for distance in (-7, 0, 3):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=1e-5)


def test_rope_positions_go_on_where_a_cache_ends():
    later = positions(3, 2, HEAD_WIDTH, rope_base=100.0, causal=True)
    all_of_them = positions(0, 5, HEAD_WIDTH, rope_base=100.0, causal=True)
    torch.testing.assert_close(later.cosine_SC, all_of_them.cosine_SC[3:])
    assert later.bias_HSK is not None
    assert all_of_them.bias_HSK is not None
    torch.testing.assert_close(later.bias_HSK, all_of_them.bias_HSK[:, 3:])


def test_alibi_is_minus_slope_times_distance_both_ways():
    bias = alibi(torch.arange(2, 5), torch.arange(5), [2.0, 0.25])
    for head, slope in enumerate([2.0, 0.25]):
        for s in range(3):
            for k in range(5):
                assert float(bias[head, s, k]) == -slope * abs((s + 2) - k)


def test_causal_attention_does_not_look_ahead():
    block = Block(16, 2, 32)
    where = positions(0, 6, 8, rope_base=100.0, causal=True, alibi_slopes=(1.0, 0.5))
    x = torch.randn(2, 6, 16)
    changed = x.clone()
    changed[:, 4:] += 1.0
    torch.testing.assert_close(block(x, where)[:, :4], block(changed, where)[:, :4])


def test_attention_both_ways_does():
    block = Block(16, 2, 32)
    where = positions(0, 6, 8, rope_base=100.0, causal=False)
    x = torch.randn(2, 6, 16)
    changed = x.clone()
    changed[:, 5] += torch.randn(16)
    assert not torch.allclose(block(x, where)[:, 0], block(changed, where)[:, 0])


@pytest.mark.parametrize("pieces", [[7], [3, 4], [4, 1, 1, 1]])
def test_a_cached_pass_equals_the_full_one(pieces: list[int]):
    block = Block(16, 2, 32)
    x = torch.randn(3, 7, 16)
    full = block(x, positions(0, 7, 8, rope_base=100.0, causal=True))
    cache = KeyValueCache(batch=3, heads=2, most=9, head_width=8, like=x)
    cached = []
    for piece in pieces:
        start = cache.length
        where = positions(start, piece, 8, rope_base=100.0, causal=True)
        cached.append(block(x[:, start : start + piece], where, cache))
    torch.testing.assert_close(torch.cat(cached, dim=1), full)
