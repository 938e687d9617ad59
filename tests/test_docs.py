"""What README and docs/ say is so: commands parse, links lead somewhere, messages are those of the code."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from flows.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("models/*/README.md")),
]
TROUBLE = ROOT / "docs" / "troubleshooting.md"
_COMMAND = re.compile(r"^(?:\w+=\S+ |for .*; do |\.venv/bin/)*orchard ((?:'[^']*'|[^\n'&])*)", re.MULTILINE)
LAYERS = ("flows", "tasks", "infra", "models")


def _commands(page: Path) -> Iterator[str]:
    """The `orchard` commands of a page's shell blocks, without what continues a line, assigns or repeats."""
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
        text = re.sub(r" +# .*", "", block).replace("\\\n", " ")
        for found in re.finditer(
            r"^(?:\w+=\S+ |for .*; do |\.venv/bin/)*orchard ((?:'[^']*'|[^\n'&])*)", text, re.MULTILINE
        ):
            yield found[1].removesuffix("; done")


COMMANDS = sorted({(page.relative_to(ROOT).as_posix(), command) for page in PAGES for command in _commands(page)})


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_that_is_written_about_is_one(page: str, command: str) -> None:
    words = shlex.split(command.replace("$seed", "1").partition(";")[0])
    place: Any = typer.main.get_command(app)
    while hasattr(place, "commands"):
        name = words.pop(0)
        assert name in place.commands, f"{page}: there is no `orchard {name}`"
        place = place.commands[name]
    place.make_context(place.name, words)  # raises UsageError for an option or a value that does not fit


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text())
    broken = []
    for link in links:
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


def _anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get where Markdown is shown."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def _texts() -> str:
    """Every text of the code, with `...` for what is put into it; texts that follow each other are one."""
    found = []
    for file in (file for layer in LAYERS for file in (ROOT / layer).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values)  # pyright: ignore[reportArgumentType, reportCallIssue]
                )
    return "\n".join(found)


def test_a_message_that_is_explained_is_one_of_the_code() -> None:
    texts = _texts()
    messages = re.findall(r"^\| `([^`]+)` \|", TROUBLE.read_text(), re.MULTILINE)
    assert len(messages) > 15
    parts = {message: [part.strip(" :'") for part in message.split("...")] for message in messages}
    assert [
        message for message, found in parts.items() if not all(part in texts for part in found if len(part) > 4)
    ] == []


def test_a_test_that_a_page_names_is_there() -> None:
    named = {(page.name, name) for page in PAGES for name in re.findall(r"`(tests/[\w/]+(?:\.py)?)`", page.read_text())}
    assert len(named) > 10
    assert [place for place in named if not (ROOT / place[1]).exists()] == []
