"""What both sides of the RTO comparison do, and how they say what they measured.

Standard library only: it is read by this project's Python and by those that have the peers.
"""

import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any

WIDTH, LAYERS, HEADS, FEED_FORWARD, VOCABULARY = 128, 4, 4, 344, 512  # Llama's shape, embedding and head untied
LEARNING_RATE = 1e-6  # small, so that the work does not change while it is timed
BETA = 0.1

DPO_PAIRS, DPO_PROMPT, DPO_RESPONSE = 16, 32, 96  # of a step; tokens
DPO_SHORTEST_PROMPT, DPO_SHORTEST_RESPONSE = 4, 8  # of mixed lengths, which are uniform up to the full ones
PPO_PROMPTS, PPO_PROMPT, PPO_RESPONSE = 32, 16, 64
GENERATED, GENERATED_PROMPT, GENERATED_RESPONSE = 64, 16, 64

_ANSWERS = sys.stdout  # as it is at the start: libraries that print are sent elsewhere


@dataclass(frozen=True)
class Work:
    """One thing that is timed, and how many units of the figure a call does."""

    figure: str
    units: int
    micro_batches: tuple[int, ...]  # sequences, or pairs, at once: each side is timed with the one that suits it best
    mixed: bool = False  # lengths of pairs
    cached: bool = False  # the reference's log-probabilities
    epochs: int = 4
    minibatches: int = 1


WORK = {
    "dpo": Work("dpo_pairs_per_second", DPO_PAIRS, (16, 8, 4)),
    "dpo-cached": Work("dpo_cached_pairs_per_second", DPO_PAIRS, (16, 8, 4), cached=True),
    "dpo-mixed": Work("dpo_mixed_pairs_per_second", DPO_PAIRS, (16, 8, 4), mixed=True),
    "ppo": Work("ppo_tokens_per_second", PPO_PROMPTS * PPO_RESPONSE, (32, 16, 8)),
    "ppo-minibatches": Work(
        "ppo_minibatches_tokens_per_second", PPO_PROMPTS * PPO_RESPONSE, (8, 4), epochs=2, minibatches=4
    ),
    "generation": Work("generated_tokens_per_second", GENERATED * GENERATED_RESPONSE, (GENERATED,)),
}


@dataclass(frozen=True)
class Pair:
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


def make_pairs(count: int, *, mixed: bool, seed: int = 0) -> list[Pair]:
    """Pairs of random tokens, the same for all sides; token 0 pads and 1 ends, and neither occurs."""
    draw = random.Random(seed)

    def tokens(shortest: int, longest: int) -> list[int]:
        length = draw.randint(shortest, longest) if mixed else longest
        return [draw.randrange(2, VOCABULARY) for _ in range(length)]

    return [
        Pair(
            tokens(DPO_SHORTEST_PROMPT, DPO_PROMPT),
            tokens(DPO_SHORTEST_RESPONSE, DPO_RESPONSE),
            tokens(DPO_SHORTEST_RESPONSE, DPO_RESPONSE),
        )
        for _ in range(count)
    ]


def make_prompts(count: int, length: int, seed: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(2, VOCABULARY) for _ in range(length)] for _ in range(count)]


def timed(call: Callable[[], object], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call by the clock, and of this process's threads."""
    wall, processor = [], []
    for _ in range(repeats):
        begin, begin_processor = perf_counter(), process_time()
        call()
        wall.append(perf_counter() - begin)
        processor.append(process_time() - begin_processor)
    return {"seconds": wall, "processor_seconds": processor}


def serve(prepare: Callable[[dict[str, Any]], Callable[[int], dict[str, Any]]]) -> None:
    """Answers requests, one JSON line each, until there are no more.

    `prepare` makes what answers a request {"work": NAME, "precision": ...} with a number of repeats; it is asked once
    for each kind of request, and kept warm.
    """
    ready: dict[str, Callable[[int], dict[str, Any]]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        repeats = request.pop("repeats")
        key = json.dumps(request, sort_keys=True)
        if key not in ready:
            ready[key] = prepare(request)
        _ANSWERS.write(json.dumps(ready[key](repeats)) + "\n")
        _ANSWERS.flush()
