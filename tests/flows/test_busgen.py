"""The BUSGen pipeline from the command line, on real parts; and bad input, refused before anything starts."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.busgen.config import BusgenConfig
from models.busgen.diagnosis.classifier import predict, read_classifier
from models.busgen.diffusion.generator import read_generator
from tests.fixtures.commands import orchard, orchard_json

TINY = ("run", "busgen", "--preset", "tiny")
ARMS = {"real", "generated", "both"}


@pytest.mark.slow
@pytest.mark.usefixtures("ray", "prefect")
def test_a_generator_is_trained_adapted_measured_and_published_with_its_parts(home: Path, tmp_path: Path) -> None:
    result = orchard_json(*TINY, "--run-key", "first")
    assert (result["artifact"], result["version"]) == ("busgen", "v0.1.0")
    metrics = result["metrics"]
    assert metrics["classifier"].keys() == ARMS
    for arm in metrics["classifier"].values():
        assert arm["ci"][0] <= arm["auc"] <= arm["ci"][1]
        assert len(arm["draws"]) == 2
    curves = [metrics["optimal_loss"][name] for name in ("sigma", "j_star", "j")]
    assert {len(curve) for curve in curves} == {4}
    assert all(math.isfinite(value) for curve in curves for value in curve)
    assert {"FD-probes", "FD-classical", "FD-random"} <= metrics["fd"].keys()
    assert metrics["privacy"]["planted"] == 4
    assert metrics["privacy"]["generated"] == 24
    assert set(metrics["scaling"]) >= {"0", "8"}
    assert all(gate["passed"] for gate in result["gates"].values())

    page = Path(result["report"]).read_text()
    assert "Phantom results are not clinical." in page
    assert re.findall(r"""(?:src|href)=["']?(?!#|data:)[^"'> ]+""", page) == [], "no outside address"

    out = tmp_path / "pulled"
    assert orchard("pull", "busgen", "--out", str(out)).returncode == 0
    assert orchard("verify", str(out)).returncode == 0
    assert (out / "report.html").read_text() == page
    assert (out / "adapter" / "weights.safetensors").stat().st_size < (out / "weights.safetensors").stat().st_size
    _use(out, home / "runs" / "first")
    for stage in ("probes", "pretraining", "adaptation", "generation", "classifier", "draw_0", "draw_1"):
        assert (home / "runs" / "first" / stage).is_dir(), stage


def _use(version: Path, run: Path) -> None:
    """What is pulled reads back as what the run trained."""
    config = BusgenConfig.model_validate_json((version / "config.json").read_text())
    cpu = torch.device("cpu")
    for adapter in (False, True):
        pulled, trained = (
            read_generator(config.generator, base, part if adapter else None, cpu)
            for base, part in (
                (version, version / "adapter"),
                (run / "pretraining" / "result", run / "adaptation" / "result"),
            )
        )
        assert all(map(torch.equal, pulled.parameters(), trained.parameters()))
    random_NHW = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    for name in ("probes", "classifier"):
        pulled, trained = (read_classifier(folder, cpu) for folder in (version / name, run / name / "result"))
        np.testing.assert_array_equal(predict(pulled, random_NHW)["label"], predict(trained, random_NHW)["label"])


def _folder_of_layout(root: Path, labels: dict[str, int]) -> Path:
    """Pictures as BUSI has them."""
    random = np.random.default_rng(0)
    for label, count in labels.items():
        (root / label).mkdir(parents=True)
        for number in range(1, count + 1):
            Image.fromarray(random.integers(0, 256, (40, 50), dtype=np.uint8)).save(
                root / label / f"{label} ({number}).png"
            )
            mask = np.zeros((40, 50), np.uint8)
            mask[10:25, 15:35] = 255 * (label != "normal")
            Image.fromarray(mask).save(root / label / f"{label} ({number})_mask.png")
    return root


def _origins(**of: Any) -> str:
    return f"data.origins={json.dumps([of])}"


def _refused(home: Path, *changes: str) -> str:
    """What is told of a run that is refused at once, in one line."""
    done = orchard(*TINY, *(part for change in changes for part in ("--set", change)), seconds=60)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (home / "ray").exists(), "no Ray was started"
    assert not (home / "runs").exists(), "no run was begun"
    return " ".join(done.stderr.split())


REFUSED = {
    "layout": (_origins(layout="busu", folder="x"), "there is no layout 'busu'; did you mean 'busi'? fits: busi, "),
    "no folder": (
        _origins(layout="busi", folder="no/such"),
        "no/such does not exist layout 'busi' fits: a folder with benign/, malignant/",
    ),
    "few patients": (
        "data.splits.rare_few_shot=40",
        "class 'dcis' has 20 patients, and 42 are needed: 2 in test (found 0), 40 in few_shot (found 20) add patients",
    ),
    "workers": (
        "pretraining.batch_size=15",
        "does not divide over 2 workers of laptop fits: a multiple of 2 try: --set",
    ),
    "patch": (
        "network.patch=5",
        "patches of 5 cannot take images of side 16 fits: multiples of 5 up to 1024 try side=15",
    ),
    "side": ("data.side=18", "patches of 4 cannot take images of side 18 fits: multiples of 4 up to 1024 try side=16"),
    "shots": (
        "task.shots=9",
        "will have 8 images of 'dcis', and 9 shots are asked for fits: at most 8 shots, or more patients in that split "
        "try: --set task.shots=8",
    ),
    "label": (
        "data.splits.positive=phyllodes",
        "the generator knows no class 'phyllodes'; fits: normal, benign, malignant, dcis",
    ),
    "parent": ('task.parents={"dcis":"benign"}', "positive and negative are both 'benign'; name two labels"),
    "device": (
        'conditions.devices=["linear-7"]',
        "will have the device 'linear-10', and the conditions do not list it listed: linear-7 add it to "
        "conditions.devices",
    ),
    "class": (
        'conditions.classes=["benign","malignant","dcis"]',
        "will have the class 'normal', and the conditions do not list it listed: benign, malignant, dcis add it to "
        "conditions.classes",
    ),
    "arms": ('study.arms=["real","both"]', "arms lacks generated; fits: real, generated, both, and others"),
    "arm": ('study.arms=["real","generated","both","many"]', "Input should be 'real', 'generated', 'both', 'transfer'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_with_what_fits(case: str, home: Path) -> None:
    change, told = REFUSED[case]
    assert told in _refused(home, change)


def test_a_folder_of_another_layout_is_refused_with_what_it_holds(home: Path, tmp_path: Path) -> None:
    folder = _folder_of_layout(tmp_path / "own", {"benign": 1})
    (folder / "benign").rename(folder / "cysts")
    told = _refused(home, _origins(layout="busi", folder=str(folder)))
    assert "layout 'busi'" in told
    assert "cysts" in told
    assert "benign/, malignant/" in told


@pytest.mark.slow
@pytest.mark.usefixtures("ray", "prefect")
def test_a_folder_with_too_few_patients_stops_at_the_first_stage_in_one_block(home: Path, tmp_path: Path) -> None:
    folder = _folder_of_layout(tmp_path / "busi", {"benign": 3, "malignant": 2})
    splits = ("data.splits.positive=malignant", "data.splits.rare=false", "task.parents={}")
    changes = [part for change in (_origins(layout="busi", folder=str(folder)), *splits) for part in ("--set", change)]
    done = orchard(*TINY, *changes, "--run-key", "few")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "class 'malignant' has 2 patients, and" in done.stderr
    assert not (home / "runs" / "few" / "pretraining").exists()
