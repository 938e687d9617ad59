"""Preference pairs of JSONL and Parquet files: every row is validated, and what is wrong is said with its number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.common.errors import ConfigError, DataError
from models.rto import tokenizer as own
from models.rto.data_config import PreferenceData, PreferenceFiles
from models.rto.pair_rows import FIELDS, BadRow, TextPair, read_row
from models.rto.preferences import Pairs, Preferences
from models.rto.ragged import Ragged, Tokens

# What a random stream is for, so that no two parts share one.
_TRAIN, _HELD_OUT, _DEMONSTRATIONS = range(3)
_FAULTS_SHOWN = 5
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Place:
    """Where a row stands; rows count from 1, and in JSONL they are the lines."""

    file: Path
    row: int

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}"


@dataclass
class Faults:
    """Rows that cannot be used: counted where they are to be skipped, and otherwise told together."""

    config: PreferenceFiles
    found: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, place: Place, error: BadRow) -> None:
        self.count += 1
        if len(self.found) < _FAULTS_SHOWN:
            self.found.append(f"{place}: {error}")

    def settle(self) -> None:
        """Raises DataError where there are any and they are not to be skipped."""
        if self.count and self.config.bad_rows == "refuse":
            more = f"\nand {self.count - len(self.found)} more" if self.count > len(self.found) else ""
            raise DataError("\n".join(self.found) + more + "\nmend the rows, or leave them out with bad_rows=skip")


def preferences_of_files(config: PreferenceData) -> Preferences:
    """The files' pairs as tokens; demonstrations are the chosen responses of the pairs to learn from."""
    task = config.task
    assert isinstance(task, PreferenceFiles)
    _check_files(task)
    tokenizer = own.load_tokenizer(task.tokenizer)
    faults = Faults(task)
    texts = {
        name: _drawn_pairs(files, most, np.random.default_rng([config.seed, stream]), faults)
        for name, files, most, stream in (
            ("train", task.train, config.pairs, _TRAIN),
            ("held_out", task.held_out, config.held_out_pairs, _HELD_OUT),
        )
    }
    faults.settle()
    chat = any(not isinstance(pair.prompt, str) for pairs in texts.values() for _, pair in pairs)
    end = own.end_token(tokenizer, chat=chat)
    tokens = {name: Tokenized.of(tokenizer, pairs, end, task, faults) for name, pairs in texts.items()}
    faults.settle()
    for name, part in tokens.items():
        if len(part.pairs) < 2:
            raise DataError(f"the files of '{name}' hold {len(part.pairs)} usable pairs\ngive two or more")
    train = tokens["train"].pairs
    demonstrations = min(config.demonstrations, len(train))
    rows = np.random.default_rng([config.seed, _DEMONSTRATIONS]).permutation(len(train))[:demonstrations]
    return Preferences(
        train=train,
        held_out=tokens["held_out"].pairs,
        demonstration_prompts=train.prompts.take(rows),
        demonstrations=train.chosen.take(rows),
        vocabulary=own.size(tokenizer),
        end=end,
        delimiters=own.delimiters(tokenizer),
        about={
            "task": task.model_dump(mode="json"),
            "seed": config.seed,
            "tokenizer": own.describe(tokenizer, task.tokenizer, end),
            "chat": chat,
            "skipped_rows": faults.count,
            "cut_responses": {name: part.cut_responses for name, part in tokens.items()},
        },
    )


@dataclass(frozen=True)
class Tokenized:
    """Pairs as tokens, and how many of their responses were cut off."""

    pairs: Pairs
    cut_responses: int

    @classmethod
    def of(
        cls,
        tokenizer: own.Tokenizer,
        pairs: list[tuple[Place, TextPair]],
        end: int,
        task: PreferenceFiles,
        faults: Faults,
    ) -> Tokenized:
        columns: tuple[list[Tokens], list[Tokens], list[Tokens]] = ([], [], [])
        cut_responses = 0
        for place, pair in pairs:
            try:
                prompt, chosen, rejected = _pair_tokens(tokenizer, pair, end, task)
            except BadRow as error:
                faults.add(place, error)
                continue
            cut_responses += sum(len(response) > task.most_response for response in (chosen, rejected))
            row = (prompt, chosen[: task.most_response], rejected[: task.most_response])
            for column, tokens in zip(columns, row, strict=True):
                column.append(np.array(tokens, np.int32))  # now: as lists, millions of them fill the memory
        return cls(Pairs(*(Ragged.of(column) for column in columns)), cut_responses)


def _pair_tokens(
    tokenizer: own.Tokenizer, pair: TextPair, end: int, task: PreferenceFiles
) -> tuple[list[int], list[int], list[int]]:
    prompt = own.prompt_tokens(tokenizer, pair.prompt)
    if len(prompt) > task.most_prompt:
        raise BadRow(f"the prompt has {len(prompt)} tokens, and most_prompt is {task.most_prompt}")
    chosen = own.response_tokens(tokenizer, pair.prompt, pair.chosen, end)
    rejected = own.response_tokens(tokenizer, pair.prompt, pair.rejected, end)
    if chosen[: task.most_response] == rejected[: task.most_response]:
        raise BadRow(f"'chosen' equals 'rejected' in its first {task.most_response} tokens, which prefers nothing")
    return prompt, chosen, rejected


def _drawn_pairs(
    files: tuple[Path, ...], most: int, rng: np.random.Generator, faults: Faults
) -> list[tuple[Place, TextPair]]:
    """At most so many of the files' pairs, each as likely as any other, in their order (Vitter 1985, algorithm R)."""
    kept: list[tuple[int, Place, TextPair]] = []
    seen = 0
    for place, row in _rows(files):
        try:
            pair = read_row(row)
        except BadRow as error:
            faults.add(place, error)
            continue
        seen += 1
        if len(kept) < most:
            kept.append((seen, place, pair))
        elif (instead_of := int(rng.integers(seen))) < most:
            kept[instead_of] = (seen, place, pair)
    return [(place, pair) for _, place, pair in sorted(kept, key=lambda entry: entry[0])]


def _check_files(task: PreferenceFiles) -> None:
    both = [str(file) for file in task.train if file.resolve() in {other.resolve() for other in task.held_out}]
    if both:
        raise ConfigError(f"{', '.join(both)} stands in train and in held_out\ngive held-out pairs of their own")
    for file in (*task.train, *task.held_out):
        if file.suffix not in _READERS:
            raise ConfigError(f"{file} is neither of the kinds that are read\nfits: {', '.join(_READERS)}")
        if not file.is_file():
            raise DataError(f"{file} is no file\ngive files of preference pairs")


def _rows(files: tuple[Path, ...]) -> Iterator[tuple[Place, Any]]:
    for file in files:
        for number, row in _READERS[file.suffix](file):
            yield Place(file, number), row


def _jsonl_rows(file: Path) -> Iterator[tuple[int, Any]]:
    with file.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _parsed(line, Place(file, number))
        except UnicodeDecodeError as error:
            raise DataError(f"{file} is not UTF-8: {error}\nwrite it again as UTF-8") from None


def _parsed(line: str, place: Place) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: no JSON ({error})\nwrite one JSON object a line") from None


def _parquet_rows(file: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise DataError(f"{file} is no Parquet file: {error}\nfetch or write it again") from None
    columns = [name for name in FIELDS if name in table.schema_arrow.names]
    if "chosen" not in columns and "summaries" not in columns:
        found = ", ".join(table.schema_arrow.names)
        raise DataError(f"{file} has no column 'chosen'; found: {found}\ngive a file of preference pairs")
    number = 0
    for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns):
        for row in batch.to_pylist():
            number += 1
            yield number, row


_READERS = {".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
