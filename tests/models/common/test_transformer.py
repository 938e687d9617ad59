"""Rotary positions, linear biases, attention and the cache, against closed forms and the uncached pass."""

import cmath
import math

import pytest
import torch

from models.common.transformer import Block, KeyValueCache, TrainedHeads, alibi, attend, positions, rotate

HEAD_WIDTH = 8
SLOPES = (1.0, 0.5)


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
    assert all_of_them.cosine_SC is not None
    assert all_of_them.sine_SC is not None
    torch.testing.assert_close(later.cosine_SC, all_of_them.cosine_SC[3:])
    torch.testing.assert_close(later.sine_SC, all_of_them.sine_SC[3:])
    assert (all_of_them.causal, all_of_them.bias_HSK, later.causal) == (True, None, False)
    assert later.bias_HSK is not None
    assert later.bias_HSK[0].tolist() == [[0.0, 0.0, 0.0, 0.0, -math.inf], [0.0] * 5]


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


@pytest.mark.parametrize("pieces", [[7], [3, 4], [4, 1, 1, 1], [1] * 7])
@pytest.mark.parametrize(("base", "slopes"), [(100.0, ()), (100.0, SLOPES), (None, SLOPES), (None, ())])
def test_a_cached_pass_equals_the_full_one(pieces: list[int], base: float | None, slopes: tuple[float, ...]):
    block = Block(16, 2, 32)
    x = torch.randn(3, 7, 16)
    full = block(x, positions(0, 7, 8, rope_base=base, causal=True, alibi_slopes=slopes))
    cache = KeyValueCache(batch=3, heads=2, most=9, head_width=8, like=x)
    cached = []
    for piece in pieces:
        start = cache.length
        where = positions(start, piece, 8, rope_base=base, causal=True, alibi_slopes=slopes)
        cached.append(block(x[:, start : start + piece], where, cache))
    torch.testing.assert_close(torch.cat(cached, dim=1), full)


def test_a_cache_goes_on_with_the_rows_that_are_kept():
    block, where = Block(16, 2, 32).eval(), positions(3, 1, 8, rope_base=100.0, causal=True)
    x = torch.randn(4, 4, 16)
    full = block(x, positions(0, 4, 8, rope_base=100.0, causal=True))
    cache = KeyValueCache(batch=4, heads=2, most=4, head_width=8, like=x)
    with torch.no_grad():
        block(x[:, :3], positions(0, 3, 8, rope_base=100.0, causal=True), cache)
        cache.keep(torch.tensor([0, 3]))
        torch.testing.assert_close(block(x[[0, 3], 3:], where, cache), full[[0, 3], 3:].detach())


def test_without_rotation_and_biases_places_do_not_matter():
    block, where = Block(16, 2, 32), positions(0, 6, 8, rope_base=None, causal=False)
    assert (where.cosine_SC, where.sine_SC, where.bias_HSK, where.causal) == (None, None, None, False)
    x, order = torch.randn(2, 6, 16), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(block(x[:, order], where), block(x, where)[:, order])


@pytest.mark.parametrize(("first", "count"), [(0, 5), (2, 3), (4, 1), (0, 1)])
@pytest.mark.parametrize("slopes", [(), SLOPES])
def test_attention_is_the_softmax_of_scaled_scores_and_biases(first: int, count: int, slopes: tuple[float, ...]):
    query, key, value = torch.randn(3, 2, 5, 8), torch.randn(3, 2, 5, 8), torch.randn(3, 2, 5, 8)
    where = positions(first, count, 8, rope_base=None, causal=True, alibi_slopes=slopes)
    last = first + count
    seen = attend(query[:, :, first:last], key[:, :, :last], value[:, :, :last], where)
    for head in range(2):
        slope = slopes[head] if slopes else 0.0
        for s in range(count):
            keys = range(first + s + 1)
            scores = [
                query[1, head, first + s] @ key[1, head, k] / math.sqrt(8) - slope * (first + s - k) for k in keys
            ]
            weights = [math.exp(float(score)) for score in scores]
            by_hand = sum(w / sum(weights) * value[1, head, k] for w, k in zip(weights, keys, strict=True))
            torch.testing.assert_close(seen[1, head, s], by_hand)


def test_rotated_heads_and_their_gradient_are_those_of_complex_numbers():
    mixed = torch.randn(2, 5, 3, 4, HEAD_WIDTH, requires_grad=True)
    heads = TrainedHeads.apply(mixed, positions(0, 5, HEAD_WIDTH, rope_base=100.0, causal=False))
    angles = torch.arange(5)[:, None] * 100.0 ** (-torch.arange(0, HEAD_WIDTH, 2) / HEAD_WIDTH)
    turn = torch.polar(torch.ones_like(angles), angles)
    wanted = []
    for part in range(3):
        x = mixed[:, :, part].transpose(1, 2)
        turned = torch.complex(*x.chunk(2, dim=-1)) * (turn if part < 2 else 1.0)
        wanted.append(torch.cat([turned.real, turned.imag], dim=-1))
    weights = [torch.randn_like(head) for head in wanted]
    gradients = []
    for found in (heads, wanted):
        loss = torch.stack([(head * weight).sum() for head, weight in zip(found, weights, strict=True)]).sum()
        gradients.append(torch.autograd.grad(loss, mixed)[0])
    torch.testing.assert_close(heads, tuple(wanted))
    torch.testing.assert_close(*gradients)


def test_what_a_decoding_has_made_serves_a_training():
    block = Block(16, 2, 32)
    with torch.inference_mode():
        block(torch.randn(1, 6, 16), positions(0, 6, 8, rope_base=77.0, causal=True))
    block(torch.randn(1, 6, 16), positions(0, 6, 8, rope_base=77.0, causal=True)).sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())


def test_positions_that_are_picked_come_out_as_they_do_among_all():
    block, where = Block(16, 2, 32), positions(0, 6, 8, rope_base=100.0, causal=True)
    x, picked = torch.randn(2, 6, 16), torch.tensor([1, 4, 5, 9])
    torch.testing.assert_close(block(x, where, None, picked), block(x, where).flatten(0, 1)[picked])


def test_dropout_leaves_each_output_out_at_its_rate_and_only_in_training():
    where = positions(0, 400, 8, rope_base=100.0, causal=True)
    torch.manual_seed(1)
    block, x = Block(16, 2, 32, dropout=0.25), torch.randn(1, 400, 16)
    torch.manual_seed(1)
    without = Block(16, 2, 32)
    torch.testing.assert_close(block.eval()(x, where), without(x, where))
    attention = block.train().attention
    kept = attention.eval()(x, where)
    dropped = attention.train()(x, where)
    gone = dropped == 0.0
    assert float(gone.float().mean()) == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(dropped[~gone], kept[~gone] / 0.75)


def test_in_bfloat16_a_block_is_near_what_it_is_in_float32():
    block, where = Block(16, 2, 32), positions(0, 6, 8, rope_base=100.0, causal=True)
    x = torch.randn(2, 6, 16)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = block(x, where)
    torch.testing.assert_close(rounded.float(), block(x, where), atol=0.05, rtol=0.05)
