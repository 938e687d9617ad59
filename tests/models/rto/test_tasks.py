"""The made-up tasks against loops, closed forms and enumeration."""

import functools
import itertools
import math

import numpy as np
import pytest

from models.common.errors import ConfigError, DataError
from models.rto.bigram import FOREIGN, Bigram
from models.rto.data_config import BigramTask, LengthTrapTask, PreferenceData, TransductionTask, TreeTask
from models.rto.law import draw, random_law
from models.rto.length_trap import LengthTrap
from models.rto.preferences import Pairs
from models.rto.ragged import Ragged
from models.rto.tasks import MadeUpTask, draw_problem, preferences_of_task
from models.rto.transduction import Transduction, edit_distances
from models.rto.tree import Tree

TASKS = [
    BigramTask(length=12, reward_scale=0.4),
    TransductionTask(symbols=4, shortest=3, longest=6),
    TreeTask(),
    LengthTrapTask(length_bias=0.2),
]


def of_kind(task: MadeUpTask) -> str:
    return task.kind


def random() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("task", TASKS, ids=of_kind)
def test_labels_follow_bradley_terry_on_the_true_reward(task: MadeUpTask):
    data = PreferenceData(task=task, pairs=6000, held_out_pairs=2, demonstrations=2)
    pairs, problem = preferences_of_task(data, task).train, draw_problem(task, data.seed)
    margin = problem.score(pairs.prompts, pairs.chosen) - problem.score(pairs.prompts, pairs.rejected)
    if isinstance(task, LengthTrapTask):
        margin += task.length_bias * (pairs.chosen.lengths - pairs.rejected.lengths)
    expected = 1 / (1 + np.exp(-np.abs(margin[margin != 0])))  # of the better one to be the chosen one
    error = (expected * (1 - expected)).sum() ** 0.5
    assert abs((margin > 0).sum() - expected.sum()) < 4 * error
    assert expected.mean() > 0.55


@pytest.mark.parametrize("task", TASKS, ids=of_kind)
def test_the_two_responses_of_a_pair_differ(task: MadeUpTask):
    pairs = preferences_of_task(PreferenceData(task=task, pairs=500, held_out_pairs=2, demonstrations=2), task).train
    assert not any(np.array_equal(a, b) for a, b in zip(pairs.chosen, pairs.rejected, strict=True))


@pytest.mark.parametrize("task", TASKS, ids=of_kind)
def test_tokens_lie_in_the_vocabulary_and_the_end_stands_last(task: MadeUpTask):
    data = preferences_of_task(PreferenceData(task=task, pairs=200, held_out_pairs=20, demonstrations=50), task)
    assert data.vocabulary == len(set(data.words))
    for ragged in (data.train.prompts, data.train.chosen, data.held_out.rejected, data.demonstrations):
        assert ragged.tokens.min() >= 0
        assert ragged.tokens.max() < data.vocabulary
    for response in data.demonstrations:
        assert np.flatnonzero(response == (-1 if data.end is None else data.end)).tolist() == (
            [] if data.end is None else [len(response) - 1]
        )


def test_a_law_that_leaves_no_choice_is_refused():
    task = TransductionTask(corruption=0.0)
    with pytest.raises(ConfigError, match="no two different responses"):
        preferences_of_task(PreferenceData(task=task, pairs=10, held_out_pairs=2, demonstrations=2), task)


def test_a_random_law_is_a_softmax_and_is_drawn_from():
    law = random_law(random(), (5, 7), 0.7)
    logits = 0.7 * random().standard_normal((5, 7))
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(law, expected, atol=2e-9)
    assert (law.sum(axis=-1) == 1).all()
    drawn = draw(np.repeat(law[None, 0], 20_000, axis=0), random().random(20_000))
    shares = np.bincount(drawn, minlength=7) / 20_000
    np.testing.assert_allclose(shares, law[0], atol=4 * 0.5 / 20_000**0.5)


def test_the_bigram_truth_is_a_sum_over_neighbours():
    task = BigramTask(classes=3, symbols=4, length=5)
    problem = Bigram.drawn(task, random())
    prompts = problem.prompts(random(), 12, held_out=False)
    responses = problem.responses(random(), prompts)
    scores = problem.neighbours.scores_CPS
    for n, reward in enumerate(problem.score(prompts, responses)):
        total, before = 0.0, task.symbols
        for token in responses[n]:
            total += scores[prompts[n][0] - task.symbols, before, token]
            before = token
        assert math.isclose(reward, total)
    assert scores.std() == pytest.approx(task.reward_scale, rel=0.25)


def test_a_token_that_is_no_symbol_costs_three_standard_deviations():
    task = BigramTask(classes=2, symbols=3, length=2, reward_scale=0.5)
    problem = Bigram.drawn(task, random())
    class_token = task.symbols
    scores = problem.neighbours.scores_CPS[0]
    expected = scores[3, 1] + FOREIGN * 0.5 + scores[3, 2]  # after it the row of a first symbol
    assert problem.score([[class_token]], [[1, 4, 2]]) == pytest.approx(expected)


def test_bigram_demonstrations_follow_the_law_in_every_class():
    task = BigramTask(classes=2, symbols=3, length=50)
    problem = Bigram.drawn(task, random())
    prompts = problem.prompts(random(), 2000, held_out=False)
    assert np.bincount(prompts.tokens).tolist() == [0, 0, 0, 1000, 1000]
    symbols_NL = problem.responses(random(), prompts).tokens.reshape(2000, 50)
    for number, before in itertools.product(range(2), range(3)):
        mine = symbols_NL[prompts.tokens == 3 + number]
        after = mine[:, 1:][mine[:, :-1] == before]
        shares = np.bincount(after, minlength=3) / len(after)
        np.testing.assert_allclose(shares, problem.neighbours.law_CPS[number, before], atol=4 * 0.5 / len(after) ** 0.5)


def test_lengths_in_the_trap_are_geometric_up_to_the_longest():
    task = LengthTrapTask(longest=20, mean_length=8)
    problem = LengthTrap.drawn(task, random())
    lengths = problem.responses(random(), problem.prompts(random(), 20_000, held_out=False)).lengths
    stays = 1 - 1 / task.mean_length
    expected = (1 - stays**task.longest) * task.mean_length
    assert abs(lengths.mean() - expected) < 4 * lengths.std() / 20_000**0.5
    assert lengths.max() == 20
    assert abs((lengths == 20).mean() - stays**19) < 0.01


def test_the_truth_of_the_trap_is_a_mean_that_neither_length_nor_end_changes():
    task = LengthTrapTask(classes=2, symbols=3, mean_length=9, reward_scale=0.5)
    problem = LengthTrap.drawn(task, random())
    scores = problem.neighbours.scores_CPS[1]
    expected = 0.5 * 3 * (scores[3, 0] + scores[0, 2]) / 2
    cycle = [0, 2, 1]
    rewards = problem.score([[4]] * 5, [[0, 2, problem.end], [0, 2], [problem.end], cycle * 200, cycle * 400])
    assert rewards[:2] == pytest.approx([expected, expected])
    assert rewards[2] == 0
    assert rewards[3] == pytest.approx(rewards[4], abs=0.02)


def test_labels_of_the_trap_like_length():
    task = LengthTrapTask(length_bias=0.2)
    data = PreferenceData(task=task, pairs=1000, held_out_pairs=2, demonstrations=2)
    longer = preferences_of_task(data, task).train
    fair = preferences_of_task(data, task.but(length_bias=0.0)).train

    def excess(pairs: Pairs) -> float:
        return (pairs.chosen.lengths - pairs.rejected.lengths).mean()

    assert excess(longer) > 5
    assert abs(excess(fair)) < 2.5


def test_answers_are_the_string_copied_reversed_or_sorted():
    problem = Transduction(TransductionTask(symbols=5, shortest=1, longest=9))
    prompts = problem.prompts(random(), 300, held_out=False)
    right = {"copy": list, "reverse": lambda string: string[::-1], "sort": sorted}
    for prompt, answer in zip(prompts, problem.answers(prompts), strict=True):
        operation = problem.words[prompt[0]]
        assert answer.tolist() == right[operation](prompt[1:].tolist())
    assert set(prompts.tokens[prompts.offsets[:-1]]) == {5, 6, 7}
    assert set(prompts.lengths - 1) == set(range(1, 10))


def test_a_demonstration_has_the_asked_share_of_wrong_tokens_and_its_end():
    problem = Transduction(TransductionTask(corruption=0.25))
    prompts = problem.prompts(random(), 1000, held_out=False)
    answers, responses = problem.answers(prompts), problem.responses(random(), prompts)
    assert (responses.tokens[responses.offsets[1:] - 1] == problem.end).all()
    wrong = responses.before(problem.end).tokens != answers.tokens
    assert abs(wrong.mean() - 0.25) < 4 * 0.44 / len(wrong) ** 0.5


def test_edit_distances_equal_those_of_the_recursion():
    def distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
        @functools.cache
        def of(i: int, j: int) -> int:
            if not i or not j:
                return i + j
            return min(of(i - 1, j) + 1, of(i, j - 1) + 1, of(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

        return of(len(a), len(b))

    rng = random()
    texts, answers = (
        [tuple(rng.integers(0, 3, length).tolist()) for length in rng.integers(0, 8, 200)] for _ in range(2)
    )
    found = edit_distances(Ragged.of(texts), Ragged.of(answers))
    assert found.tolist() == [distance(a, b) for a, b in zip(texts, answers, strict=True)]


def test_truth_counts_edits_and_a_missing_end():
    problem = Transduction(TransductionTask(symbols=4, missing_end=5.0))
    prompt = [5, 0, 1, 2]
    responses = [[2, 1, 0, 7], [2, 1, 0], [2, 0, 7], [2, 1, 0, 7, 7, 3], [7], []]
    assert problem.words[5] == "reverse"
    assert problem.score([prompt] * 6, responses).tolist() == [0, -5, -1, 0, -3, -8]


def test_held_out_strings_are_never_trained_on():
    task = TransductionTask(symbols=3, shortest=2, longest=4)
    data = preferences_of_task(PreferenceData(task=task, pairs=2000, held_out_pairs=200, demonstrations=2000), task)
    trained = {row.tobytes() for prompts in (data.train.prompts, data.demonstration_prompts) for row in prompts}
    held_out = {row.tobytes() for row in data.held_out.prompts}
    assert len(held_out) > 10
    assert not trained & held_out


def test_strings_too_few_to_hold_any_out_are_refused():
    task = TransductionTask(symbols=2, shortest=1, longest=1, operations=("copy",))
    with pytest.raises(ConfigError, match="raise `longest`"):
        preferences_of_task(PreferenceData(task=task, pairs=4, held_out_pairs=4, demonstrations=2), task)


@pytest.fixture
def tree() -> Tree:
    return Tree.drawn(TreeTask(), random())


def every_branch(tree: Tree) -> list[tuple[int, ...]]:
    return list(itertools.product(range(tree.task.actions), repeat=tree.task.depth))


def test_leaves_and_their_sums_are_those_of_walking_the_tree(tree: Tree):
    branches = every_branch(tree)
    assert tree.leaves_YH.tolist() == [list(branch) for branch in branches]
    # Nodes numbered by a walk, level by level.
    number = {prefix: n for n, prefix in enumerate(p for h in range(5) for p in itertools.product(range(3), repeat=h))}
    returns = [sum(tree.rewards_KA[number[b[:h]], b[h]] for h in range(5)) for b in branches]
    np.testing.assert_allclose(tree.leaf_sums(tree.rewards_KA), returns)
    np.testing.assert_allclose(tree.score([[0]] * len(branches), branches), returns)
    np.testing.assert_allclose(np.exp(tree.leaf_sums(tree.law_log_probs_KA)).sum(), 1)


@pytest.mark.parametrize("beta", [0.1, 1.0, 10.0])
def test_the_optimum_of_the_tree_is_the_tilted_law_of_its_leaves(tree: Tree, beta: float):
    # pi*(y) is proportional to pi_ref(y) exp(r(y) / beta), and V(root) is beta times the log of what it sums to.
    logits = tree.leaf_sums(tree.law_log_probs_KA) + tree.leaf_sums(tree.rewards_KA) / beta
    log_total = np.logaddexp.reduce(logits)
    optimum = tree.exact_optimum(beta)
    np.testing.assert_allclose(tree.leaf_sums(optimum.log_probs_KA), logits - log_total, atol=1e-10)
    assert optimum.values_K[0] == pytest.approx(beta * log_total)


def test_log_ratios_of_the_optimum_sum_to_the_return_less_the_value_of_the_root(tree: Tree):
    optimum = tree.exact_optimum(0.3)
    log_ratios = tree.leaf_sums(0.3 * (optimum.log_probs_KA - tree.law_log_probs_KA))
    np.testing.assert_allclose(log_ratios, tree.leaf_sums(tree.rewards_KA) - optimum.values_K[0], atol=1e-13)


def test_the_optimum_takes_other_rewards_and_another_reference(tree: Tree):
    dpo = tree.exact_optimum(0.5).log_probs_KA
    uniform = np.full_like(dpo, -math.log(3))
    # Rewards beta1 log(pi_dpo / pi_ref) with beta2 = beta1 give pi_dpo back (section 5.1 f).
    found = tree.exact_optimum(0.2, rewards_KA=0.2 * (dpo - uniform), reference_log_probs_KA=uniform)
    np.testing.assert_allclose(found.log_probs_KA, dpo, atol=1e-12)


def test_branches_are_drawn_by_the_law_of_the_tree(tree: Tree):
    prompts = tree.prompts(random(), 30_000, held_out=False)
    branches = tree.responses(random(), prompts).tokens.reshape(-1, 5)
    shares = np.bincount(branches @ (3 ** np.arange(4, -1, -1)), minlength=243) / len(branches)
    expected = np.exp(tree.leaf_sums(tree.law_log_probs_KA))
    assert np.abs(shares - expected).sum() / 2 < 0.05


def test_a_response_longer_than_the_tree_is_refused(tree: Tree):
    with pytest.raises(DataError, match="set most_response to 5"):
        tree.score([[0]], [[0] * 6])
