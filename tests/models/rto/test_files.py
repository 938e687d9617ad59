"""Files of pairs in the layouts that are about, and every kind of row that cannot be used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from models.common.errors import ConfigError, DataError
from models.rto.data_config import PreferenceData, PreferenceFiles
from models.rto.files import preferences_of_files
from models.rto.pair_rows import BadRow, Message, TextPair, read_row
from models.rto.preferences import Preferences
from models.rto.tasks import prepare
from tests.models.rto.tokenizers import CHATML, byte_tokenizer

USER, GOOD, BAD = (
    {"role": "user", "content": "why is the sky blue?"},
    {"role": "assistant", "content": "air scatters it"},
    {"role": "assistant", "content": "it is painted"},
)
TEXTS = {"prompt": "why is the sky blue?", "chosen": " air scatters it", "rejected": " it is painted"}
DIALOGUE = "\n\nHuman: why?\n\nAssistant: what?\n\nHuman: sky\n\nAssistant:"
POST = {"subreddit": "AskDocs", "title": "sky", "post": "it is blue"}

WriteRows = Callable[..., Path]


@pytest.fixture
def tokenizer(tmp_path: Path) -> PreTrainedTokenizerFast:
    made = byte_tokenizer(chat_template=CHATML)
    made.save_pretrained(tmp_path / "tokenizer")
    return made


@pytest.fixture
def write(tmp_path: Path) -> WriteRows:
    def write_rows(rows: list[Any], name: str = "train.jsonl") -> Path:
        file = tmp_path / name
        if file.suffix == ".parquet":
            import pyarrow as pa
            from pyarrow import parquet

            parquet.write_table(pa.Table.from_pylist(rows), file)
        else:
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    return write_rows


def data(tmp_path: Path, train: Path, held_out: Path, **settings: Any) -> PreferenceData:
    files = PreferenceFiles(
        train=(train,), held_out=(held_out,), tokenizer=str(tmp_path / "tokenizer"), most_prompt=80
    ).but(**settings)
    return PreferenceData(task=files, pairs=100, held_out_pairs=100, demonstrations=100)


def numbered(row: dict[str, Any], count: int) -> list[dict[str, Any]]:
    return [{**row, "prompt": f"{number}: {row['prompt']}"} for number in range(count)]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (TEXTS, TextPair("why is the sky blue?", " air scatters it", " it is painted")),
        (
            {"chosen": [USER, GOOD], "rejected": [USER, BAD], "prompt": USER["content"]},
            TextPair((Message(**USER),), GOOD["content"], BAD["content"]),
        ),
        (
            {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
            TextPair((Message(**USER),), GOOD["content"], BAD["content"]),
        ),
        (
            {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
            TextPair((Message(**USER),), GOOD["content"], BAD["content"]),
        ),
        (
            {"prompt": USER["content"], "chosen": [GOOD], "rejected": [BAD]},
            TextPair((Message(**USER),), GOOD["content"], BAD["content"]),
        ),
        (
            {"chosen": DIALOGUE + " scattering", "rejected": DIALOGUE + " paint"},
            TextPair(DIALOGUE, " scattering", " paint"),
        ),
        (
            {"info": POST, "summaries": [{"text": " a"}, {"text": " b"}], "choice": 1},
            TextPair("SUBREDDIT: r/AskDocs\n\nTITLE: sky\n\nPOST: it is blue\n\nTL;DR:", " b", " a"),
        ),
    ],
    ids=["texts", "ultrafeedback", "messages", "prompt messages", "prompt text", "dialogues", "tldr"],
)
def test_each_common_layout_gives_the_prompt_and_its_two_answers(row: dict[str, Any], expected: TextPair):
    assert read_row(row) == expected


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([1, 2], "is a list"),
        ({"prompt": "p", "chosen": "a"}, "has no 'rejected'; found: chosen, prompt"),
        (TEXTS | {"chosen": None}, "has no 'chosen'"),
        (TEXTS | {"chosen": "  "}, "'chosen' is empty"),
        (TEXTS | {"rejected": ""}, "'rejected' is empty"),
        (TEXTS | {"prompt": " "}, "prompt is empty"),
        (TEXTS | {"prompt": 7}, "'prompt' is of type int"),
        (TEXTS | {"rejected": "air scatters it "}, "'chosen' equals 'rejected'"),
        (TEXTS | {"rejected": [BAD]}, "'chosen' is text and 'rejected' a list"),
        ({"chosen": 1, "rejected": 2}, "'chosen' is of type int"),
        ({"chosen": [], "rejected": [BAD]}, "'chosen' is empty"),
        ({"chosen": [GOOD], "rejected": [BAD]}, "prompt is empty"),
        ({"chosen": [USER, GOOD], "rejected": [USER]}, "last message of 'rejected' is the user's"),
        ({"chosen": [USER, GOOD], "rejected": [USER | {"content": "else"}, BAD]}, "answer different prompts"),
        ({"chosen": [USER, GOOD], "rejected": [USER, {"role": "assistant"}]}, "message 2, content' is missing"),
        ({"chosen": ["hello"], "rejected": [BAD]}, "message 1 of 'chosen' is no object"),
        ({"chosen": "a", "rejected": "b"}, "has no 'prompt'"),
        ({"chosen": DIALOGUE + "a", "rejected": "?" + DIALOGUE + "b"}, "answer different prompts"),
        ({"info": POST, "summaries": [{"text": "a"}], "choice": 0}, "'summaries' is no list of two"),
        ({"info": POST, "summaries": [{"text": "a"}, {"text": "b"}], "choice": 2}, "'choice' is 2"),
        ({"info": None, "summaries": [{"text": "a"}, {"text": "b"}], "choice": 0}, "'info' is missing"),
    ],
)
def test_a_row_that_is_no_pair_says_why(row: Any, said: str):
    with pytest.raises(BadRow) as error:
        read_row(row)
    assert said in str(error.value)


@pytest.mark.usefixtures("tokenizer")
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_ultrafeedback_rows_load_as_they_are_from_either_format(write: WriteRows, tmp_path: Path, suffix: str):
    row = {"chosen": [USER, GOOD], "rejected": [USER, BAD], "prompt": USER["content"]}
    more = {"prompt_id": "f0e37e", "messages": [USER, GOOD], "score_chosen": 9.0, "score_rejected": 3.5}
    train = write([row | more] * 3, f"train{suffix}")
    prepare(data(tmp_path, train, write([row | more] * 2, f"held_out{suffix}")), tmp_path)
    read = Preferences.read(tmp_path)
    assert (len(read.train), len(read.held_out), len(read.demonstrations)) == (3, 2, 3)
    assert read.text(read.train.chosen[0]) == "air scatters it"
    assert "".join(read.token_texts(read.train.prompts[0])) == (
        "<|im_start|>user\nwhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert read.token_texts(read.train.rejected[0])[-1] == "<|im_end|>"
    assert read.truth() is None
    assert read.about["chat"]


def test_texts_are_tokens_as_the_tokenizer_makes_them(
    tokenizer: PreTrainedTokenizerFast, write: WriteRows, tmp_path: Path
):
    preferences = preferences_of_files(
        data(tmp_path, write(numbered(TEXTS, 4)), write(numbered(TEXTS, 2), "held_out.jsonl"))
    )
    assert preferences.end == tokenizer.eos_token_id
    assert preferences.vocabulary == len(tokenizer)
    answer = [*tokenizer.encode(" air scatters it"), tokenizer.eos_token_id]
    for number in range(4):
        assert preferences.train.prompts[number].tolist() == tokenizer.encode(f"{number}: why is the sky blue?")
        assert preferences.train.chosen[number].tolist() == answer
    assert {tuple(row.tolist()) for row in preferences.demonstrations} == {tuple(answer)}
    ends = {str(tokenizer.decode([token])) for token in preferences.delimiters}
    assert {".", "?", "!"} <= ends
    assert "a" not in ends


def test_an_error_names_file_and_row_of_each_fault_and_counts_the_rest(
    tokenizer: PreTrainedTokenizerFast, write: WriteRows, tmp_path: Path
):
    rows = [TEXTS, TEXTS | {"chosen": ""}, TEXTS] + [TEXTS | {"rejected": TEXTS["chosen"]}] * 6
    train, held_out = write(rows), write(numbered(TEXTS, 2), "held_out.jsonl")
    with pytest.raises(DataError) as error:
        preferences_of_files(data(tmp_path, train, held_out))
    text = str(error.value)
    assert f"{train}, row 2: 'chosen' is empty" in text
    assert f"{train}, row 4: 'chosen' equals 'rejected'" in text
    assert "and 2 more" in text
    assert "bad_rows=skip" in text
    skipped = preferences_of_files(data(tmp_path, train, held_out, bad_rows="skip"))
    assert len(skipped.train) == 2
    assert skipped.about["skipped_rows"] == 7


@pytest.mark.usefixtures("tokenizer")
def test_rows_are_counted_over_blank_lines(write: WriteRows, tmp_path: Path):
    train = tmp_path / "train.jsonl"
    train.write_text(f"{json.dumps(TEXTS)}\n\n{json.dumps(TEXTS)}\n" + "{oh\n")
    with pytest.raises(DataError, match="row 4: no JSON"):
        preferences_of_files(data(tmp_path, train, write(numbered(TEXTS, 2), "held_out.jsonl")))


@pytest.mark.usefixtures("tokenizer")
def test_a_prompt_too_long_is_refused_with_its_row(write: WriteRows, tmp_path: Path):
    train = write([TEXTS, TEXTS | {"prompt": "why? " * 100}])
    with pytest.raises(DataError, match=r"row 2: the prompt has \d+ tokens, and most_prompt is 80"):
        preferences_of_files(data(tmp_path, train, write(numbered(TEXTS, 2), "held_out.jsonl")))


@pytest.mark.usefixtures("tokenizer")
def test_a_response_too_long_is_cut_and_counted(write: WriteRows, tmp_path: Path):
    train, held_out = write([TEXTS | {"chosen": "long " * 9}] * 2), write(numbered(TEXTS, 2), "held_out.jsonl")
    preferences = preferences_of_files(data(tmp_path, train, held_out, most_response=20))
    assert preferences.train.chosen.lengths.tolist() == [20, 20]
    assert preferences.end not in preferences.train.chosen[0]
    assert preferences.end in preferences.train.rejected[0]
    assert preferences.about["cut_responses"] == {"train": 2, "held_out": 0}
    with pytest.raises(DataError, match="row 1: 'chosen' equals 'rejected' in its first 1 tokens"):
        preferences_of_files(data(tmp_path, train, held_out, most_response=1))


@pytest.mark.usefixtures("tokenizer")
def test_of_too_many_pairs_every_seed_draws_its_own(write: WriteRows, tmp_path: Path):
    train, held_out = write(numbered(TEXTS, 60)), write(numbered(TEXTS, 4), "held_out.jsonl")
    config = data(tmp_path, train, held_out).but(pairs=10, demonstrations=4)

    def prompts(seed: int) -> list[str]:
        preferences = preferences_of_files(config.but(seed=seed))
        assert len(preferences.demonstrations) == 4
        return [preferences.text(prompt) for prompt in preferences.train.prompts]

    first, second = prompts(0), prompts(1)
    numbers = [int(prompt.split(":")[0]) for prompt in first]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 10
    assert first == prompts(0) != second


@pytest.mark.usefixtures("tokenizer")
def test_files_that_cannot_be_read_are_refused(write: WriteRows, tmp_path: Path):
    good, held_out = write(numbered(TEXTS, 2)), write(numbered(TEXTS, 2), "held_out.jsonl")
    with pytest.raises(ConfigError, match="train and in held_out"):
        preferences_of_files(data(tmp_path, good, good))
    with pytest.raises(DataError, match=r"none\.jsonl is no file"):
        preferences_of_files(data(tmp_path, tmp_path / "none.jsonl", held_out))
    with pytest.raises(ConfigError, match=r"fits: \.jsonl, \.parquet"):
        preferences_of_files(data(tmp_path, tmp_path / "train.csv", held_out))
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="no Parquet file"):
        preferences_of_files(data(tmp_path, tmp_path / "bad.parquet", held_out))
    with pytest.raises(DataError, match="no column 'chosen'; found: text"):
        preferences_of_files(data(tmp_path, write([{"text": "a"}], "text.parquet"), held_out))
    (tmp_path / "latin.jsonl").write_bytes('{"prompt": "é"}'.encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8"):
        preferences_of_files(data(tmp_path, tmp_path / "latin.jsonl", held_out))
    with pytest.raises(DataError, match="the files of 'train' hold 1 usable pairs"):
        preferences_of_files(data(tmp_path, write([TEXTS]), held_out))
