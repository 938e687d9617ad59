from pathlib import Path

import pytest

from models.busgen.readers.entries import files_below, natural
from models.busgen.readers.words import birads_of, subtype_of, text_of, yes
from models.common.errors import DataError


def test_names_are_sorted_as_people_do():
    names = ["b2", "a10", "a²", "a2", "a", "a02", "10", "9", "a2b10", "a2b9"]
    backwards = names[::-1]
    for given in (names, backwards):
        assert sorted(given, key=natural) == ["9", "10", "a", "a02", "a2", "a2b9", "a2b10", "a10", "a²", "b2"]


def test_links_are_followed_once_and_hidden_files_passed_over(tmp_path: Path):
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "x.png").touch()
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    for name in ("10.png", "9.png", ".hidden.png", "note.txt"):
        (root / "in" / name).touch()
    (root / "in" / "back").symlink_to(root)
    (root / "linked").symlink_to(tmp_path / "away")
    found = [path.relative_to(root).as_posix() for path in files_below(root, frozenset({".png"}))]
    assert found == ["in/9.png", "in/10.png", "linked/x.png"]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Ductal carcinoma in situ", "dcis"),
        ("DCIS", "dcis"),
        ("ductal carcinoma in-situ (DCIS)", "dcis"),
        ("Invasive carcinoma of no special type", "invasive_ductal_carcinoma"),
        ("Fibroadenoma", "fibroadenoma"),
        (" Usual  ductal hyperplasia ", "usual_ductal_hyperplasia"),
        ("not available", ""),
        (float("nan"), ""),
        (None, ""),
    ],
)
def test_one_histology_has_one_name(said: object, meant: str):
    assert subtype_of(said) == meant


def test_cells_are_read_as_text():
    assert [text_of(cell) for cell in (3.0, 0.5, " a  b ", "N/A", 0)] == ["3", "0.5", "a b", "", "0"]
    assert [birads_of(cell) for cell in ("BI-RADS 4A", "BIRADS: 3", 5, None)] == ["4a", "3", "5", ""]
    assert [yes(cell, "it") for cell in ("Yes", 1, "no", "")] == [True, True, False, False]
    with pytest.raises(DataError, match="its Doppler is 'perhaps'; fits: yes, no"):
        yes("perhaps", "its Doppler")
