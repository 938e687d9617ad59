"""Datasets: the same bytes again, verified when they are there, and never mixed up."""

from pathlib import Path

import pytest

from infra.datasets import dataset_folder, prepare_dataset
from models.common.contract import DataConfig
from models.common.errors import DataError


class Numbers(DataConfig):
    count: int = 5

    def prepare(self, folder: Path) -> None:
        (folder / "numbers.txt").write_text("\n".join(str((self.seed + n) * 7 % 11) for n in range(self.count)))


def test_the_same_config_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (prepare_dataset(Numbers(seed=3), tmp_path / name) for name in ("one", "two"))
    assert one.sha256 == two.sha256
    assert (tmp_path / "one" / "manifest.json").read_bytes() == (tmp_path / "two" / "manifest.json").read_bytes()
    assert prepare_dataset(Numbers(seed=4), tmp_path / "three").sha256 != one.sha256


def test_a_dataset_that_is_there_is_verified_and_kept(tmp_path: Path) -> None:
    first = prepare_dataset(Numbers(), tmp_path / "d")
    written = (tmp_path / "d" / "numbers.txt").stat().st_mtime_ns
    assert prepare_dataset(Numbers(), tmp_path / "d") == first
    assert (tmp_path / "d" / "numbers.txt").stat().st_mtime_ns == written


def test_a_changed_file_is_refused_and_kept(tmp_path: Path) -> None:
    prepare_dataset(Numbers(), tmp_path / "d")
    (tmp_path / "d" / "numbers.txt").write_text("0")
    with pytest.raises(DataError, match="has 1 bytes, its manifest says"):
        prepare_dataset(Numbers(), tmp_path / "d")
    assert (tmp_path / "d" / "numbers.txt").read_text() == "0"


def test_another_config_s_folder_is_refused(tmp_path: Path) -> None:
    prepare_dataset(Numbers(), tmp_path / "d")
    with pytest.raises(DataError, match="another config"):
        prepare_dataset(Numbers(count=6), tmp_path / "d")


def test_someone_s_own_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"has no manifest.json"):
        prepare_dataset(Numbers(), tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_preparation_that_fails_leaves_nothing(tmp_path: Path) -> None:
    class Failing(Numbers):
        def prepare(self, folder: Path) -> None:
            (folder / "half.txt").write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        prepare_dataset(Failing(), tmp_path / "d")
    assert list(tmp_path.glob("[!o]*")) == list(tmp_path.glob(".*")) == []


def test_each_config_has_a_folder_of_its_own(home: Path, tmp_path: Path) -> None:
    assert dataset_folder("relay", Numbers(), None).parent == home / "datasets"
    assert dataset_folder("relay", Numbers(), tmp_path).parent == tmp_path / "datasets"
    assert dataset_folder("relay", Numbers(), None) != dataset_folder("relay", Numbers(seed=1), None)


class Letters(DataConfig):
    file: Path

    def prepare(self, folder: Path) -> None:
        (folder / "letters.txt").write_text(self.file.read_text().upper())

    def sources(self) -> tuple[Path, ...]:
        return (self.file,)


def test_other_bytes_in_a_source_are_another_dataset(tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_text("one")
    config = Letters(file=source)
    first = dataset_folder("w", config, tmp_path)
    one = prepare_dataset(config, first)
    source.write_text("two")
    assert dataset_folder("w", config, tmp_path) != first
    with pytest.raises(DataError, match="of another config"):
        prepare_dataset(config, first)
    assert prepare_dataset(config, dataset_folder("w", config, tmp_path)).sha256 != one.sha256
    source.write_text("one")
    assert dataset_folder("w", config, tmp_path) == first


def test_a_source_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.txt is no file"):
        dataset_folder("w", Letters(file=tmp_path / "gone.txt"), tmp_path)
