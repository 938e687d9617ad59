"""All stages of `tiny()` by hand, as the flow wires them, and the report that they end in."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from models.common import workloads
from models.common.config import Config
from models.common.contract import MapConfig, StageConfig, WorkerGroup
from models.common.errors import ConfigError
from models.common.report import Report
from models.relay.chains import Labels
from models.relay.config import RelayConfig
from models.relay.presets import tiny
from models.relay.problems import Problems
from models.relay.tasks.user import UserTask

LARGEST = Path(__file__).parent / "tasks" / "largest.py"
STAGES = ["name", "data", "teacher", "student", "labels", "fine_tuning", "control", "study", "evaluation", "promotion"]


@pytest.mark.parametrize("preset", workloads.preset_names("relay"))
def test_every_preset_loads_and_survives_json(preset: str):
    config = workloads.preset("relay", preset)
    assert isinstance(config, RelayConfig)
    assert list(RelayConfig.model_fields) == STAGES
    assert RelayConfig.model_validate_json(config.model_dump_json()) == config


def test_every_field_that_is_a_number_has_bounds():
    def check(kind: type[Config]) -> None:
        for name, field in kind.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Config):
                check(field.annotation)
            elif field.annotation in (int, float):
                assert field.metadata, f"{kind.__name__}.{name} takes any number"

    check(RelayConfig)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"control.network.layers": 2}, "same one"),
        ({"fine_tuning.optimizer.learning_rate": 1e-4}, "differ in optimizer"),
        ({"control.max_steps": 31}, "compared"),
        ({"teacher.task_weights": {"arithmetics": 2.0}}, "did you mean 'arithmetic'"),
        ({"control.task_weights": {"arithmetics": 2.0}}, "did you mean 'arithmetic'"),
        ({"teacher.label_share": 0.5}, "teacher.label_share: only fine_tuning is given labels"),
        ({"student.new_share": 0.5, "control.new_share": {"arithmetic": 0.5}}, "student.new_share, control.new_share"),
        ({"labels.problems": {"arithmetic": [1, 2]}}, "2 numbers of problems for 1 lengths"),
        ({"labels.lengths": {"arithmetic": [2]}}, "does not have for labels\nfits: 3"),
        ({"labels.lengths": {"arithmetic": [3, 3]}}, "each length once"),
        ({"labels.lengths": {"arithmetic": []}}, "nothing to label"),
        ({"labels.source": "student"}, "study.arms=self_answer"),
        ({"labels.filters.kept": ["votes"], "labels.filters.vote_dropout": 0.0}, "5 voters, but 1 teacher without"),
        ({"labels.source": "solver", "labels.filters.kept": ["votes"]}, "solver"),
        ({"labels.reading.halting": "confidence", "labels.reading.more_loops": 1}, "more_loops"),
        ({"teacher.alignment": "left", "teacher.workspace": 3}, "alignment=right"),
        ({"teacher.network.positions": "rope"}, "alibi_slopes"),
        ({"teacher.mix.buckets": 2}, "buckets"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: dict, told: str):
    with pytest.raises(ConfigError, match=told):
        tiny().with_overrides(changes)


def refused_here(changes: dict) -> str:
    with pytest.raises(ConfigError) as refused:
        tiny().with_overrides(changes).check_here()
    return str(refused.value)


def test_what_the_tasks_lack_is_refused_before_a_run_begins():
    assert "arithmetic has no board" in refused_here({"teacher.board": True})
    parity = [{"task": {"kind": "parity"}, "train_lengths": [2], "label_lengths": [3]}]
    told = refused_here({"data.tasks": parity, "labels.reading.halting": "last_round"})
    assert "a round of parity does not tell" in told


def test_a_users_task_is_checked_before_a_run_begins(tmp_path: Path):
    def of(text: str) -> dict:
        (tmp_path / "mine.py").write_text(text)
        return {"data.tasks": [{**tiny().data.tasks[0].model_dump(), "task": mine}]}

    mine = {"kind": "user", "source": tmp_path / "mine.py", "class_name": "Largest"}
    sound = LARGEST.read_text()
    config = tiny().with_overrides(of(sound))
    config.check_here()
    assert all(stage.bytes_per_worker(WorkerGroup(1)) > 0 for stage in config.trained_stages().values())
    assert "and loops(1) is 2" in refused_here(of(sound.replace("return length", "return length + 1")))


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


def run_by_hand(config: RelayConfig, folder: Path, world_of) -> dict[str, Path]:
    """All stages, as the flow wires them; their folders."""
    problems = folder / "problems"
    problems.mkdir()
    config.data.prepare(problems)
    short = {"problems": problems}
    teacher = trained(config.teacher, world_of(short), folder / "teacher")
    before = trained(config.student, world_of(short), folder / "student")
    labels = spread(config.labels, world_of({**short, "teacher": teacher}), folder / "labels")
    old_and_new = {**short, "labels": labels}
    student = trained(config.fine_tuning, world_of(old_and_new, start_from=before), folder / "fine_tuning")
    control = trained(config.control, world_of(short, start_from=before), folder / "control")
    models = {"teacher": teacher, "student_before": before, "student": student, "control": control}
    study = spread(config.study_stage, world_of({**old_and_new, **models}), folder / "study")
    found = {**old_and_new, **models, "study": study}
    return {**found, "evaluation": spread(config.evaluation, world_of(found), folder / "evaluation")}


def test_the_pipeline_ends_in_a_report(tmp_path: Path, world_of):
    report = Report.read(run_by_hand(tiny(), tmp_path, world_of)["evaluation"])
    report.require_gates()
    found = report.metrics["tasks"]["arithmetic"]
    assert (found["beyond_lengths"], found["untouched_lengths"]) == ([3], [4])
    for model in ("teacher", "student_before", "student", "control"):
        for kind in ("answer_accuracy", "chain_exact_match", "token_accuracy"):
            assert found[model][kind].keys() == {"1", "2", "3", "4"}
            assert all(0 <= share <= 1 for share in found[model][kind].values())
    assert {"T", "T-1", "T+1", "T+2", "last_round", "confidence"} == set(report.metrics["loops"]["arithmetic"])
    assert set(report.metrics["arms"]["arithmetic"]) >= {"relay", "control"}
    assert len(report.gates) == 3
    assert report.browser is not None


def test_a_task_of_the_users_goes_the_whole_way_and_travels_with_its_problems(tmp_path: Path, world_of):
    source = tmp_path / "mine.py"
    source.write_text(LARGEST.read_text())
    class_name = next(line for line in LARGEST.read_text().splitlines() if line.startswith("class ")).split()[1]
    task = UserTask(source=source, class_name=class_name.split("(")[0])
    config = tiny().with_overrides({"data.tasks": [{**tiny().data.tasks[0].model_dump(), "task": task.model_dump()}]})
    folders = run_by_hand(config, tmp_path, world_of)
    source.unlink()
    name = Problems.read(folders["problems"]).data.tasks[0].task.name
    assert set(Report.read(folders["evaluation"]).metrics["tasks"]) == {name}


def test_labels_are_kept_apart_from_what_a_solver_thinks_of_them(tmp_path: Path, world_of):
    config = tiny()
    problems = tmp_path / "problems"
    problems.mkdir()
    config.data.prepare(problems)
    teacher = trained(config.teacher.but(max_steps=20), world_of({"problems": problems}), tmp_path / "teacher")
    folder = spread(config.labels, world_of({"problems": problems, "teacher": teacher}), tmp_path / "labels")
    read = Problems.read(problems)
    [group] = Labels.read(folder, read).groups
    rows = Labels.read(folder, read).rows(group)
    assert len(rows.asked_P) == config.labels.problems_per_length
    tests = {row.tobytes() for row in read.tests(group)}
    assert not tests & {np.ascontiguousarray(row[:8]).tobytes() for row in rows.tokens_PW}
    (folder / "label_accuracy.json").unlink()
    assert Labels.read(folder, read).groups == (group,)
