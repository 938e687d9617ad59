"""What cannot work is refused when the config is read, with what fits."""

from typing import Any

import pytest

from infra.clusters import LAPTOP
from infra.preflight import check_batches, check_memory
from models.common.errors import ConfigError
from models.nqs.presets import tiny
from models.nqs.start import require_same_particles


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"system.filling": "5,4"}, "5 electrons with spin up on 4 sites"),
        ({"system.U": "strong"}, "unable to parse string as a number"),
        ({"system.lattice": "4by2"}, "not two positive lengths"),
        ({"system.boundary": "moebius"}, "boundary 'moebius' is not known"),
        ({"system.boundary": "periodic", "system.lattice": "4x4", "system.twist": "0.3,0"}, "set ansatz.complex=true"),
        ({"system.filling": "2,1", "symmetry.spin_flip": "even"}, "spin_flip"),
        ({"symmetry.translations": "all"}, "translation"),
        ({"system.lattice": "3x2", "symmetry.point_group": "C4v"}, "C4v"),
        ({"ansatz.width": 10, "ansatz.heads": 4}, "does not divide into 4 heads"),
        ({"start": "somewhere"}, "start"),
        ({"training.sampler.moves": ["jump"]}, "moves"),
        (
            {"ansatz.complex": True, "measurement.fixed_node.walkers": 16},
            "the fixed-node projection is for real states",
        ),
    ],
)
def test_a_config_is_refused(overrides: dict[str, Any], said: str):
    with pytest.raises(ConfigError) as refused:
        tiny().with_overrides(overrides)
    assert said in str(refused.value)


def test_walkers_have_to_divide_over_the_workers():
    with pytest.raises(
        ConfigError, match=r"a batch of 1 does not divide over 2 workers.*\n.*\n.*training.batch_size=2"
    ):
        check_batches(tiny().with_overrides({"training.batch_size": 1}), LAPTOP)


def test_a_gram_matrix_beyond_memory_is_refused_with_what_fits():
    small = LAPTOP.but(memory_gib_per_worker=2.0)
    check_memory(tiny(), small)
    with pytest.raises(ConfigError) as refused:
        check_memory(tiny().with_overrides({"training.batch_size": 100_000}), small)
    said = str(refused.value)
    assert "needs 225 GiB" in said  # 3 x 8 x 100,000^2 bytes and 1 GiB of derivatives
    fits = int(said.split("training.batch_size=")[1])
    check_memory(tiny().with_overrides({"training.batch_size": fits}), small)
    with pytest.raises(ConfigError):
        check_memory(tiny().with_overrides({"training.batch_size": 2 * fits + 2}), small)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"system.U": 8.0}, None),
        ({"system.lattice": "4x2", "system.filling": "2,2"}, None),
        ({"system.lattice": "3x2", "system.filling": "1,1"}, "smaller lattice whose lengths divide these"),
        ({"system.filling": "2,1"}, "smaller lattice whose lengths divide these"),
    ],
)
def test_a_start_has_to_be_the_same_system_or_a_piece_of_it(changes: dict[str, Any], said: str | None):
    parent = tiny().model_dump(mode="json")
    state = tiny().with_overrides(changes).state
    if said is None:
        require_same_particles(state, parent)
        return
    with pytest.raises(ConfigError, match=said):
        require_same_particles(state, parent)


def test_a_start_of_another_kind_or_workload_is_refused():
    other = tiny().but(ansatz={"kind": "mean_field"}).model_dump(mode="json")
    with pytest.raises(ConfigError, match=r"ansatz.kind is transformer\n.*\ntry: --set ansatz.kind=mean_field"):
        require_same_particles(tiny().state, other)
    with pytest.raises(ConfigError, match="a version of relay"):
        require_same_particles(tiny().state, {"name": "relay"})
