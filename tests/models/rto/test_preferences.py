"""Rows of different lengths, their padding, and the prepared folder."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.common.errors import DataError
from models.rto.data_config import BigramTask, LengthTrapTask, PreferenceData
from models.rto.preferences import (
    Preferences,
    pair_sequences,
    ragged_sequences,
    sequences,
    true_rewards,
    unpadded,
)
from models.rto.ragged import Ragged
from models.rto.tasks import preferences_of_task, prepare

ROWS = [[3, 1, 4], [], [1, 5], [9]]


def lists(ragged: Ragged) -> list[list[int]]:
    return [row.tolist() for row in ragged]


def test_a_ragged_array_gives_back_its_rows():
    ragged = Ragged.of(ROWS)
    assert lists(ragged) == ROWS
    assert (len(ragged), ragged.longest, ragged.lengths.tolist()) == (4, 3, [3, 0, 2, 1])
    assert lists(ragged.take([2, 0, 2, 1])) == [[1, 5], [3, 1, 4], [1, 5], []]
    assert lists(ragged.repeated(2))[:3] == [[3, 1, 4], [3, 1, 4], []]
    assert lists(Ragged.joined([ragged, ragged])) == ROWS + ROWS
    assert lists(ragged.before(1)) == [[3], [], [], [9]]
    assert ragged.sums(ragged.tokens).tolist() == [8, 0, 6, 9]
    assert ragged[-1].tolist() == [9]
    with pytest.raises(IndexError):
        ragged[4]


def test_a_ragged_array_without_rows_is_no_special_case():
    empty = Ragged.of([])
    assert lists(empty) == lists(empty.take([])) == []
    assert empty.padded()[0].shape == (0, 1)


def test_padding_stands_left_of_prompts_and_right_of_responses():
    batch = sequences([[7], [8, 9]], [[[1, 2, 3], []], [[4], [5, 6]]])
    assert batch.prompt_real_BP.tolist() == [[False, True], [True, True]]
    assert batch.prompts_BP[:, -1].tolist() == [7, 9]
    assert batch.responses_BGR.shape == (2, 2, 3)
    assert batch.lengths_BG.tolist() == [[3, 0], [1, 2]]
    assert batch.targets_N().tolist() == [1, 2, 3, 4, 5, 6]
    assert batch.responses_BGR.dtype == torch.int64


def test_a_prompt_with_a_response_more_than_the_others_is_refused():
    with pytest.raises(ValueError, match="zip"):
        sequences([[7], [8]], [[[1], [2]], [[3]]])


def test_unpadding_gives_back_each_response_beside_its_prompt():
    prompts, responses = unpadded(sequences([[7], [8, 9]], [[[1, 2, 3], []], [[4], [5, 6]]]))
    assert lists(prompts) == [[7], [7], [8, 9], [8, 9]]
    assert lists(responses) == [[1, 2, 3], [], [4], [5, 6]]


@pytest.fixture
def preferences() -> Preferences:
    return preferences_of_task(
        PreferenceData(task=LengthTrapTask(longest=9, mean_length=4), pairs=20, held_out_pairs=6, demonstrations=10),
        LengthTrapTask(longest=9, mean_length=4),
    )


def test_a_batch_of_pairs_holds_chosen_and_rejected_of_the_asked_rows(preferences: Preferences):
    batch = pair_sequences(preferences.train, [4, 11])
    prompts, responses = unpadded(batch)
    train = preferences.train
    assert lists(responses) == [each[n].tolist() for n in (4, 11) for each in (train.chosen, train.rejected)]
    assert lists(prompts) == [train.prompts[n].tolist() for n in (4, 4, 11, 11)]


def test_a_batch_of_demonstrations_has_one_response_a_prompt(preferences: Preferences):
    batch = ragged_sequences(preferences.demonstration_prompts, [preferences.demonstrations])
    assert batch.responses_BGR.shape[:2] == (10, 1)
    assert lists(unpadded(batch)[1]) == lists(preferences.demonstrations)


def test_what_is_written_is_read_back(preferences: Preferences, tmp_path: Path):
    preferences.write(tmp_path)
    read = Preferences.read(tmp_path)
    for part in ("train", "held_out"):
        for name in ("prompts", "chosen", "rejected"):
            before, after = (getattr(getattr(each, part), name) for each in (preferences, read))
            assert lists(before) == lists(after)
    assert lists(read.demonstrations) == lists(preferences.demonstrations)
    assert (read.vocabulary, read.end, read.words, read.about) == (13, 12, preferences.words, preferences.about)


def test_the_truth_read_back_scores_as_the_one_that_labelled(preferences: Preferences, tmp_path: Path):
    preferences.write(tmp_path)
    batch = pair_sequences(preferences.train)
    before, after = preferences.truth(), Preferences.read(tmp_path).truth()
    assert before is not None
    assert after is not None
    rewards = true_rewards(after, batch)
    assert rewards.shape == (20, 2)
    np.testing.assert_array_equal(rewards, true_rewards(before, batch))
    np.testing.assert_array_equal(
        rewards[:, 1], after.score(list(preferences.train.prompts), preferences.train.rejected)
    )


def test_tokens_of_a_made_up_task_are_shown_as_its_words(preferences: Preferences):
    assert preferences.text([0, 1, 8, 12]) == "a b class0 end"
    assert preferences.token_texts(torch.tensor([2, 12])) == ("c", "end")


def test_a_config_prepares_the_same_bytes_again_and_another_seed_others(tmp_path: Path):
    config = PreferenceData(task=BigramTask(length=6), pairs=12, held_out_pairs=4, demonstrations=8)
    contents = []
    for name, one in (("first", config), ("again", config), ("other", config.but(seed=1))):
        (tmp_path / name).mkdir()
        prepare(one, tmp_path / name)
        contents.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    assert contents[0]["train_chosen_tokens.npy"] != contents[2]["train_chosen_tokens.npy"]
    assert contents[0]["table_scores.npy"] != contents[2]["table_scores.npy"]


def test_a_folder_that_nobody_prepared_is_refused(preferences: Preferences, tmp_path: Path):
    with pytest.raises(DataError, match=r"preferences\.json"):
        Preferences.read(tmp_path)
    preferences.write(tmp_path)
    (tmp_path / "train_chosen_tokens.npy").unlink()
    with pytest.raises(DataError, match="train_chosen_tokens"):
        Preferences.read(tmp_path)
