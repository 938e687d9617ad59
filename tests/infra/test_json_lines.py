"""Lines that are appended while others read, through processes that die and disks that are full."""

import subprocess
import sys
from pathlib import Path

import pytest

from infra.json_lines import Reader, append_line, append_lines, read_lines

_WITHOUT_ROOM = """
import resource, signal, sys
from pathlib import Path
from infra.json_lines import append_line
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
append_line(Path(sys.argv[1]), {"text": "long " * 100})
"""


def test_lines_are_read_in_the_order_in_which_they_were_appended(tmp_path: Path) -> None:
    file = tmp_path / "new" / "lines.jsonl"
    assert read_lines(file) == []
    append_line(file, {"n": 1})
    append_lines(file, ['{"n": 2}\n', '{"n": 3}\n'])
    assert [line["n"] for line in read_lines(file)] == [1, 2, 3]


def test_a_reader_has_each_line_once_and_one_that_is_being_written_when_it_is_whole(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "lines.jsonl")
    assert reader.new_lines() == []
    append_line(reader.file, {"n": 1})
    with reader.file.open("ab") as stream:
        stream.write('{"text": "größer'.encode()[:-2])
        stream.flush()
        assert reader.new_lines() == [{"n": 1}]
        assert reader.new_lines() == []
        stream.write(b'er", "n": 2}\n{"n": 3}\n{"n":')
    assert reader.new_lines() == [{"text": "größer", "n": 2}, {"n": 3}]
    append_line(reader.file, {"n": 4})
    assert reader.new_lines() == [{"n": 4}], "what was broken off comes to nothing"


@pytest.mark.parametrize("broken_off", [b'{"n": 2', b"{", b'{"text": "\xc3', b"\0\0\0"])
def test_a_line_that_was_broken_off_spoils_no_other(broken_off: bytes, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    append_line(file, {"n": 1})
    with file.open("ab") as stream:
        stream.write(broken_off)
    assert [line["n"] for line in read_lines(file)] == [1], "it may still be written"
    append_line(file, {"n": 3})
    append_line(file, {"n": 4})
    assert [line["n"] for line in read_lines(file)] == [1, 3, 4]


@pytest.mark.parametrize("room", [5, 100])
def test_where_there_is_no_room_it_is_told_and_later_lines_are_whole(room: int, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    append_line(file, {"n": 1})
    limit = file.stat().st_size + room
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_ROOM, str(file), str(limit)], capture_output=True, text=True, check=False
    )
    assert "File too large" in done.stderr
    assert file.stat().st_size == limit, "a part of the line is there"
    append_line(file, {"n": 3})
    assert [line["n"] for line in read_lines(file)] == [1, 3]
