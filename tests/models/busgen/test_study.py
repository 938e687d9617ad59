"""Draws of the few lesions: which images each uses, what the arms learn from, and that nobody of the test is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.busgen import study
from models.busgen.arms import ARMS, ArmName
from models.busgen.batches import few_shot_rows
from models.busgen.diagnosis.classifier import predict, read_classifier
from models.busgen.diagnosis.samples import make_pools
from models.busgen.images.dataset import Images
from models.common.errors import ConfigError
from models.common.in_process import train_in_process
from tests.models.busgen.pipeline import Run

TASK = ("dcis", "benign")
EVERY_ARM: tuple[ArmName, ...] = ("real", "generated", "both", "transfer", "transfer_both", "many_real")


def draw_of(run: Run, draw: int) -> study.Draw:
    return study.Draw.read(run.world.inputs[f"draw_{draw}"])


def patients(images: Images, rows: Any) -> set[str]:
    return {f"{images.cases[row].source}/{images.cases[row].patient}" for row in rows}


def test_a_patient_is_in_one_split_only(tiny_run: Run) -> None:
    images = tiny_run.images
    splits: dict[str, set[str]] = {}
    for case in images.cases:
        splits.setdefault(f"{case.source}/{case.patient}", set()).add(case.split)
    assert {len(found) for found in splits.values()} == {1}
    assert set().union(*splits.values()) == {"pretrain", "validation", "few_shot", "test"}
    before = [case for case in images.cases if case.split in ("pretrain", "validation")]
    assert not [case.name for case in before if case.subtype == "dcis"]


@pytest.mark.parametrize("frames", [1, 3])
def test_no_training_sees_a_patient_of_the_test(tiny_run: Run, frames: int, tmp_path: Path) -> None:
    config, images = tiny_run.config, tiny_run.images
    if frames > 1:  # several images of each patient
        origin = config.data.origins[0].but(frames=frames, normal=2, benign=24, malignant=8, dcis=14)
        splits = config.data.splits.but(few_shot=6, test=6, rare_few_shot=6)
        config = config.but(data=config.data.but(origins=(origin,), splits=splits))
        config.data.prepare(tmp_path)
        images = Images.read(tmp_path)
    world = tiny_run.but(images=tmp_path) if frames > 1 else tiny_run.world
    tested = patients(images, study.test_rows(images, *TASK))
    seen = patients(images, images.rows(split="pretrain")) | patients(images, images.rows(split="validation"))
    for draw in range(4):
        seen |= patients(images, few_shot_rows(images, config.draw_stage(draw).classifier))
        stage = config.draw_stage(draw).but(arms=EVERY_ARM)
        for _, classifier in study.arms_of(stage):
            for pool in make_pools(classifier, world):
                if pool.images.cases[0].source != "generated":
                    seen |= patients(images, np.concatenate(pool.groups))
    assert len(tested) >= 12
    assert tested.isdisjoint(seen)
    assert tested.isdisjoint(patients(tiny_run.generated, range(len(tiny_run.generated))))


def test_a_draw_is_of_the_same_lesions_for_generator_and_classifier(tiny_run: Run) -> None:
    images, drawn = tiny_run.images, []
    for draw in (0, 1):
        stage = tiny_run.config.draw_stage(draw)
        few, again = (few_shot_rows(images, of) for of in (stage.classifier, stage.generation.adaptation))
        np.testing.assert_array_equal(few, again)
        drawn.append([row for row in few if images.cases[row].subtype == "dcis"])
        negative = {row for row in few if images.cases[row].subtype != "dcis"}
        assert negative == set(images.rows(split="few_shot", labels=["benign"], classes=TASK)), "not rare: all of them"
    assert [len(rows) for rows in drawn] == [4, 4]
    assert set(drawn[0]).isdisjoint(drawn[1]), "eight rare lesions make two draws of four"


def test_the_runs_own_draw_uses_its_images_and_another_makes_its_own(tiny_run: Run) -> None:
    own, other = draw_of(tiny_run, 0), draw_of(tiny_run, 1)
    assert (own.draw, other.draw) == (0, 1)
    assert own.generated == len(tiny_run.generated)
    network = read_classifier(tiny_run.world.inputs["classifier"], tiny_run.world.device)
    rows = study.test_rows(tiny_run.images, *TASK)
    published = predict(network, tiny_run.images.pixels_NHW[rows])["label"]
    assert own.logits["both"] == published.tolist(), "the classifier that is published is this draw's"
    mixed = tiny_run.config.draw_stage(1)
    given = study.process(mixed, tiny_run.world)  # with the images of draw 0
    assert given.logits["real"] == other.logits["real"]
    assert given.logits["generated"] != other.logits["generated"]


def test_arms_change_what_their_names_say_and_nothing_else(tiny_run: Run) -> None:
    stage = tiny_run.config.draw_stage(0).but(arms=EVERY_ARM)
    arms = dict(study.arms_of(stage))
    assert tuple(arms) == EVERY_ARM
    for name, classifier in arms.items():
        changed = {
            key for key, value in dict(classifier).items() if value != dict(tiny_run.config.classifier_stage)[key]
        }
        assert changed <= {"train_on", "shots"}, name
    per_batch = stage.classifier.batch_size
    sources = {
        name: [(pool.images.cases[0].source, len(np.concatenate(pool.groups)), sum(pool.counts)) for pool in pools]
        for name, pools in ((name, make_pools(one, tiny_run.world)) for name, one in arms.items())
    }
    few, made = tiny_run.config.task.shots + 8, len(tiny_run.generated)
    assert sources["real"] == sources["transfer"] == [("phantom", few, per_batch)]
    assert sources["generated"] == [("generated", made, per_batch)]
    assert sources["both"] == sources["transfer_both"]
    assert [source[:2] for source in sources["both"]] == [("phantom", few), ("generated", made)]
    assert sum(source[2] for source in sources["both"]) == per_batch
    assert sources["many_real"] == [("phantom", 16, per_batch)], "eight patients of each label in the split"
    assert set(ARMS) == set(EVERY_ARM)


def test_transfer_begins_with_the_probes_and_no_other_arm_does(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[str, Path | None]] = []

    def recorded(stage: Any, world: Any, folder: Path, inputs: Any, start: Path | None = None) -> Any:
        begun.append((stage.train_on, start))
        return train_in_process(stage.but(max_steps=1), world, folder, inputs, start)

    monkeypatch.setattr(study, "train_in_process", recorded)
    stage = tiny_run.config.draw_stage(0).but(arms=EVERY_ARM, sizes=())
    study.process(stage, tiny_run.world)
    probes = tiny_run.world.inputs["probes"]
    assert begun == [
        ("real", None), ("generated", None), ("both", None), ("real", probes), ("both", probes), ("real", None),
    ]  # fmt: skip


def test_a_size_takes_the_first_images(tiny_run: Run, tmp_path: Path) -> None:
    found = draw_of(tiny_run, 0)
    [size] = tiny_run.config.study.sizes
    assert list(found.sizes) == [size, len(tiny_run.generated)]
    assert found.sizes[len(tiny_run.generated)] == found.logits["both"]
    first = tmp_path / "first"
    first.mkdir()
    tiny_run.generated.take(range(size)).write(first)
    inputs = {"images": tiny_run.world.inputs["images"], "generated": first}
    trained = train_in_process(tiny_run.config.classifier_stage, tiny_run.world, tmp_path / "classifier", inputs)
    network = read_classifier(trained.folder, tiny_run.world.device)
    pixels_NHW = tiny_run.images.pixels_NHW[study.test_rows(tiny_run.images, *TASK)]
    assert found.sizes[size] == predict(network, pixels_NHW)["label"].tolist()


def test_a_size_beyond_the_images_there_are_is_passed_over(tiny_run: Run) -> None:
    stage = tiny_run.config.draw_stage(0).but(sizes=(10_000,), classifier=_short(tiny_run))
    assert list(study.process(stage, tiny_run.world).sizes) == [len(tiny_run.generated)]


def _short(run: Run) -> dict[str, Any]:
    return run.config.classifier_stage.but(max_steps=1).model_dump()


def test_logits_are_in_the_order_of_the_tests_rows(tiny_run: Run) -> None:
    images = tiny_run.images
    rows = study.test_rows(images, *TASK)
    assert list(rows) == sorted(rows)
    by_hand = [
        row
        for row, case in enumerate(images.cases)
        if case.split == "test" and (case.subtype == "dcis" or case.pathology == "benign")
    ]
    assert list(rows) == by_hand
    for draw in range(tiny_run.config.study.draws):
        found = draw_of(tiny_run, draw)
        assert {len(logits) for logits in (*found.logits.values(), *found.sizes.values())} == {len(rows)}
        assert list(found.logits) == list(tiny_run.config.study.arms)


def test_another_draw_begins_with_other_weights(tiny_run: Run) -> None:
    """With all lesions of the split and the same generated images, so that nothing else is another."""
    everything = {"classifier.shots": None, "classifier.max_steps": 2, "sizes": ()}
    one, other = (
        study.process(tiny_run.config.draw_stage(draw).with_overrides(everything), tiny_run.world) for draw in (0, 1)
    )
    assert one.logits["real"] != other.logits["real"]


def test_a_draw_is_the_same_when_it_is_made_again(tiny_run: Run) -> None:
    inputs = {name: tiny_run.world.inputs[name] for name in ("images", "probes", "pretraining")}
    stage = tiny_run.config.draw_stage(1)
    assert stage.shards(inputs) == [{"draw": 1}]
    assert stage.process({"draw": 1}, replace(tiny_run.world, inputs=inputs)) == draw_of(tiny_run, 1)


def test_a_study_has_the_arms_that_are_compared(tiny_run: Run) -> None:
    with pytest.raises(ConfigError, match="lacks both"):
        tiny_run.config.study.but(arms=("real", "generated"))
