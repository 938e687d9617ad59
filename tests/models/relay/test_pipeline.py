"""All stages of `tiny()` by hand, as the flow wires them, and the report that they end in."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from models.common import workloads
from models.common.config import Config
from models.common.contract import MapConfig, StageConfig
from models.common.errors import ConfigError, DataError
from models.common.report import Figure, Report
from models.relay.arithmetic import Arithmetic, steps
from models.relay.batches import Labels
from models.relay.config import RelayConfig
from models.relay.evaluate import compare_steps
from models.relay.presets import tiny
from models.relay.problems import Problems


@pytest.mark.parametrize("preset", workloads.preset_names("relay"))
def test_every_preset_loads_and_survives_json(preset: str):
    config = workloads.preset("relay", preset)
    assert isinstance(config, RelayConfig)
    assert list(RelayConfig.model_fields) == [
        "name", "data", "teacher", "student", "labels", "fine_tuning", "control", "evaluation",
    ]  # fmt: skip
    assert RelayConfig.model_validate_json(config.model_dump_json()) == config


def test_every_field_that_is_a_number_has_bounds():
    def check(kind: type[Config]) -> None:
        for name, field in kind.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Config):
                check(field.annotation)
            elif field.annotation in (int, float):
                assert field.metadata, f"{kind.__name__}.{name} takes any number"

    check(RelayConfig)


def test_students_that_cannot_be_compared_are_refused():
    with pytest.raises(ConfigError, match="same one"):
        tiny().with_overrides({"control.network.layers": 2})
    with pytest.raises(ConfigError, match="compared"):
        tiny().with_overrides({"control.max_steps": 31})


@pytest.mark.parametrize("stage", ["teacher", "student", "fine_tuning", "control"])
def test_a_rehearsed_stage_learns(stage: str, tmp_path: Path, world_of):
    config = tiny().trained_stages()[stage]
    inputs = config.rehearse(tmp_path)
    learner = config.build(world_of(inputs.folders, start_from=inputs.start_from))
    losses = [learner.step()["loss"] for _ in range(30)]
    assert sum(losses[-5:]) < sum(losses[:5])


def trained(stage: StageConfig, world, folder: Path) -> Path:
    """The stage's folder, as the frame would leave it."""
    learner = stage.build(world)
    losses = []
    while len(losses) < stage.max_steps and not learner.finished:
        losses.append(learner.step()["loss"])
    folder.mkdir()
    save_file(learner.weights(), folder / "weights.safetensors")
    (folder / "config.json").write_text(stage.model_dump_json())
    curves = {"steps": list(range(1, len(losses) + 1)), "metrics": {"loss": losses}}
    (folder / "curves.json").write_text(json.dumps(curves))
    return folder


def spread(stage: MapConfig, world, folder: Path) -> Path:
    assert stage.shards(world.inputs) == stage.shards(world.inputs)
    parts = [stage.process(json.loads(json.dumps(shard)), world) for shard in stage.shards(world.inputs)]
    folder.mkdir()
    stage.collect(parts, world.inputs, folder)
    return folder


def test_the_pipeline_ends_in_a_report(tmp_path: Path, world_of):
    config = tiny()
    problems = tmp_path / "problems"
    problems.mkdir()
    config.data.prepare(problems)
    short = {"problems": problems}
    teacher = trained(config.teacher, world_of(short), tmp_path / "teacher")
    before = trained(config.student, world_of(short), tmp_path / "student")
    labels = spread(config.labels, world_of({**short, "teacher": teacher}), tmp_path / "labels")
    old_and_new = {**short, "labels": labels}
    student = trained(config.fine_tuning, world_of(old_and_new, start_from=before), tmp_path / "fine_tuning")
    control = trained(config.control, world_of(short, start_from=before), tmp_path / "control")
    models = {"teacher": teacher, "student_before": before, "student": student, "control": control}
    evaluation = spread(config.evaluation, world_of({**old_and_new, **models}), tmp_path / "evaluation")

    report = Report.read(evaluation)
    report.require_gates()
    assert report.metrics["beyond_lengths"] == [3]
    assert report.metrics["untouched_lengths"] == [4]
    for model in models:
        for kind in ("answer_accuracy", "chain_exact_match"):
            assert report.metrics[model][kind].keys() == {"1", "2", "3", "4"}
            assert all(0 <= share <= 1 for share in report.metrics[model][kind].values())
    assert report.figures[0].title.startswith("Whole chains")
    training = report.figures[-1]
    assert isinstance(training, Figure)
    assert len(training.curves) == 4
    assert len(report.samples) == 5
    assert len(report.gates) == 3


def test_labels_are_kept_apart_from_what_a_solver_thinks_of_them(tmp_path: Path, world_of):
    config = tiny()
    problems = tmp_path / "problems"
    problems.mkdir()
    config.data.prepare(problems)
    teacher = trained(config.teacher.but(max_steps=20), world_of({"problems": problems}), tmp_path / "teacher")
    folder = spread(config.labels, world_of({"problems": problems, "teacher": teacher}), tmp_path / "labels")
    assert sorted(file.name for file in folder.iterdir()) == ["label_accuracy.json", "labels_03.npy"]
    rows = Labels.read(folder).rows(3)
    assert len(rows) == config.labels.problems_per_length
    tests = {row.tobytes() for row in Problems.read(problems).tests(3)}
    assert not tests & {np.ascontiguousarray(row[:8]).tobytes() for row in rows}
    assert json.loads((folder / "label_accuracy.json").read_text())["3"]["labels"] == 64
    (folder / "label_accuracy.json").unlink()
    assert Labels.read(folder).lengths == (3,)


def test_a_folder_without_labels_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="labels"):
        Labels.read(tmp_path)


def test_wrong_steps_are_marked():
    arithmetic = Arithmetic(7, ("+", "-"))
    problem, *own = (
        [arithmetic.vocabulary.index(word) for word in text.split()] for text in ("1 + 2 + 3 =", "3 + 3 =", "5", "5")
    )
    right = steps(arithmetic.solutions(np.array([problem], np.uint8))[0])
    lines = compare_steps(arithmetic, own, right)
    assert [(line.label, line.mark) for line in lines] == [
        ("step 1", "right"),
        ("answer", "wrong"),
        ("step 3", "wrong"),
    ]
    assert lines[1].note == "should be: 6"
    assert lines[2].note == "should have ended"
    assert compare_steps(arithmetic, own[:1], right)[1].text == "(nothing)"
