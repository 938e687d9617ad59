"""The Dockerfile: pinned, without root, made of the locks and of what is committed."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.manifests.kustomize import BUILDS, KUBERNETES, ROOT, build, containers

DOCKERFILE = (ROOT / "infra" / "docker" / "Dockerfile").read_text()
_DIGEST = r"@sha256:[0-9a-f]{64}"
LOCKS = {"cpu": ["requirements.lock"], "cuda": ["requirements.lock", "requirements-cuda.lock"]}
TARGETS = tuple(LOCKS)


def _instructions(target: str) -> list[tuple[str, str]]:
    """What makes the target, from its base on: (instruction, rest)."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    stages: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    name = ""
    for line in filter(None, text.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name] = base, []
        elif name:
            stages[name][1].append((word, rest))
    made: list[tuple[str, str]] = []
    while target in stages:
        target, own = stages[target]
        made = own + made
    return made


def test_every_image_from_elsewhere_has_a_digest():
    arguments = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", DOCKERFILE, re.MULTILINE))
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    names = {name for _, name in stages}
    outside = {base for base, _ in stages if base not in names}
    assert outside == {f"${{{name}}}" for name in arguments}
    assert len(stages) == len(re.findall(r"^FROM", DOCKERFILE, re.MULTILINE))
    used = list(arguments.values())
    for service in yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text())["services"].values():
        used.append(service["image"])
    used += [each["image"] for name in BUILDS for thing in build(KUBERNETES / name) for each in containers(thing)]
    ours = r"(\$\{ORCHARD_IMAGE:-orchard:cpu\}|(registry\.example\.org/)?orchard:(cpu|cuda))"
    assert [image for image in used if not re.fullmatch(rf"[\w./-]+:[\w.-]+{_DIGEST}|{ours}", image)] == []


def test_one_version_of_postgresql():
    found = set(re.findall(rf"postgres:\S+{_DIGEST}", (ROOT / "infra" / "compose.yaml").read_text()))
    for name in BUILDS[:3]:
        for thing in build(KUBERNETES / name):
            found |= {each["image"] for each in containers(thing) if each["name"] == "postgres"}
    assert len(found) == 1


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_without_root_and_finds_its_own_python_first(target: str):
    made = _instructions(target)
    users = [rest for word, rest in made if word == "USER"]
    assert users == ["10001:10001"]
    after = made[made.index(("USER", "10001:10001")) :]
    assert [word for word, _ in after] == ["USER", "CMD"]
    paths = [rest for word, rest in made if word == "ENV" and "PATH=" in rest]
    assert len(paths) == 1
    assert paths[0].startswith("PATH=/opt/venv/bin:$PATH")
    assert any("/opt/venv/bin:$PATH" in rest and "/etc/profile.d/" in rest for word, rest in made if word == "RUN")


def _asked_of_pip(stage: str) -> list[str]:
    runs = (re.sub(r"\s+", " ", rest) for word, rest in _instructions(stage) if word == "RUN")
    return [asked for run in runs for asked in re.findall(r"pip install (.*?)(?: +&&|$)", run)]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_has_the_packages_of_the_lock_of_its_commit(target: str):
    made = _instructions(target)
    assert ("COPY", f"--from=packages-{target} /opt/venv /opt/venv") in made
    named = " ".join(f"-r /tmp/{lock}" for lock in LOCKS[target])
    assert _asked_of_pip(f"packages-{target}") == [
        "--no-deps --require-hashes -r /tmp/setuptools.lock",  # which builds what comes as source
        f"--no-build-isolation --no-deps --require-hashes {named}",
        f"--dry-run --require-hashes {named}",
    ]
    compared = " && ".join(f"cmp /tmp/{lock} {lock}" for lock in LOCKS[target])
    assert any(re.sub(r"\s+", " ", rest).startswith(f"{compared} && python -m pip install") for _, rest in made)
    # As the Makefile installs the checkout itself.
    makefile = re.search(
        r"pip install \$\(PIP_FLAGS\) (--no-deps --no-build-isolation .*)$",
        (ROOT / "Makefile").read_text(),
        re.MULTILINE,
    )
    assert makefile
    assert any(f"pip install {makefile[1]}" in rest for word, rest in made if word == "RUN")


def test_python_is_one_that_the_project_is_tested_on():
    tested = re.search(r"tested: (\d+\.\d+)", (ROOT / "README.md").read_text())
    assert tested
    assert re.search(rf"^ARG PYTHON_IMAGE=python:{re.escape(tested[1])}\.", DOCKERFILE, re.MULTILINE)


def test_nothing_of_the_folder_but_the_commit_and_its_locks_reaches_a_build():
    lines = (ROOT / "infra" / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule for rule in rules if rule.startswith("!")} == {"!.git", *(f"!{lock}" for lock in LOCKS["cuda"])}
    sources = [line.split()[1:-1] for line in re.findall(r"^COPY (?!--from).*$", DOCKERFILE, re.MULTILINE)]
    assert {source for found in sources for source in found} == {".git", *LOCKS["cuda"]}


def test_the_commit_is_what_a_clone_of_it_has(tmp_path: Path):
    """The line that makes the image's checkout, run on a repository with a password in its address, and a secret."""

    def git(*words: str, folder: Path) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout

    source, out = tmp_path / "source", tmp_path / "orchard"
    source.mkdir()
    git("init", "-q", folder=source)
    for text in ("first", "second"):
        (source / "code.py").write_text(text)
        git("add", "code.py", folder=source)
        git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", text, folder=source)
    git("remote", "add", "origin", "https://user:hunter2@git.example.org/x.git", folder=source)
    (source / ".env").write_text("secret")
    (source / "code.py").write_text("not committed")
    line = re.search(r"^RUN (git clone .*?)\n\n", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert line
    command = line[1].replace("\\\n", " ").replace("/source", str(source)).replace("/opt/orchard", str(out))
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert (out / "code.py").read_text() == "second"
    assert sorted(each.name for each in out.iterdir()) == [".git", "code.py"]
    assert git("rev-parse", "HEAD", folder=out) == git("rev-parse", "HEAD", folder=source)
    assert git("rev-list", "--count", "HEAD", folder=out).strip() == "1"
    assert git("status", "--porcelain", folder=out) == ""
    assert "hunter2" not in "".join(file.read_text(errors="ignore") for file in out.rglob("*") if file.is_file())
