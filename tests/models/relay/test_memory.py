"""What a stage is said to need, against parameters that are counted, what autograd keeps, and torch's own tracker."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker

from infra.clusters import LAPTOP, ONE_GPU
from infra.preflight import check_memory
from models.common.contract import WorkerGroup, World
from models.common.errors import ConfigError
from models.common.memory import trained_bytes
from models.relay.chains import chains_batches, draw_chains
from models.relay.config import RelayConfig, StudentConfig, StudentOnData, TeacherConfig, TeacherOnData
from models.relay.data_config import ProblemsData, TaskLengths
from models.relay.learning import Tally
from models.relay.memory import (
    student_activations,
    student_bytes,
    student_parameters,
    teacher_activations,
    teacher_bytes,
    teacher_parameters,
)
from models.relay.network import Decoder, LoopedTransformer
from models.relay.network_config import NetworkConfig
from models.relay.presets import gpu, laptop, paper
from models.relay.rounds import draw_rounds, rounds_batches
from models.relay.student import StudentLearner
from models.relay.teacher import TeacherLearner

SMALL = NetworkConfig(layers=2, width=48, heads=4, feed_forward_width=192)
DATA = ProblemsData(
    tasks=(TaskLengths(train_lengths=(4, 5), label_lengths=(6,), untouched_lengths=()),), tests_per_length=8
)
ALONE = WorkerGroup(workers=1)
LEARNT = {"outer_norm": True, "tied_head": True, "supervised_pads": "all"}
POSITIONS = ["rope", "rope+alibi", "alibi", "nope", "fire"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    problems = tmp_path_factory.mktemp("problems")
    DATA.prepare(problems)
    return problems


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("tied", [False, True])
def test_parameters_are_those_of_the_networks(positions: str, tied: bool) -> None:
    network = NetworkConfig.model_validate(SMALL.model_dump() | {"positions": positions})
    config = TeacherConfig(network=network, tied_head=tied)
    looped, decoder = LoopedTransformer(config, 23), Decoder(network, 23)
    assert teacher_parameters(config, 23) == sum(parameter.numel() for parameter in looped.parameters())
    assert student_parameters(network, 23) == sum(parameter.numel() for parameter in decoder.parameters())


def teacher_losses(config: TeacherConfig, world: World) -> tuple[Callable[[], torch.Tensor], torch.nn.Module, int]:
    """What computes the loss of a whole batch, its network, and how many bytes of activations that is said to take."""
    learner = TeacherLearner(config, world)
    rounds, rng = draw_rounds(learner.problems, config, 1, 1)
    batches = rounds_batches(rounds, config, 99, rng, world)
    assert len(batches) == 1
    said = teacher_activations(
        config, len(learner.problems.vocabulary), list(batches[0].rows_T), batches[0].tokens_BS.shape[1], 4
    )
    return lambda: next(learner._losses(batches, Tally())), learner.descent.engine.module, said


def student_losses(config: StudentConfig, world: World) -> tuple[Callable[[], torch.Tensor], torch.nn.Module, int]:
    """The same for a student."""
    learner = StudentLearner(config, world)
    batches = chains_batches(draw_chains(learner.problems, None, config, 1, 1, 1), config, world)
    rows, width = batches[0].tokens_BS.shape
    said = student_activations(config.network, len(learner.problems.vocabulary), rows, width - 1, 4)
    return lambda: next(learner._losses(batches, Tally())), learner.descent.engine.module, said


def kept_by_autograd(loss: Callable[[], torch.Tensor], network: torch.nn.Module) -> int:
    """Bytes of the tensors that a forward pass saves, weights left out, each storage once."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        assert loss().requires_grad
    return sum(kept.values())


def highest(loss: Callable[[], torch.Tensor], network: torch.nn.Module) -> int:
    """The most bytes of tensors that are there at once during a pass forward and backward, weights left out."""
    tracker = MemTracker()
    tracker.track_external(network)
    with tracker:
        loss().backward()
    weights = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    return tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"] - weights


@pytest.mark.parametrize(
    "changes",
    [
        *({"network.positions": positions} for positions in POSITIONS),
        LEARNT,
        LEARNT | {"network.positions": "rope+alibi"},
        {"network.dropout": 0.1},
        {"input_injection": True},
    ],
)
def test_what_the_teachers_unrolled_loop_keeps_is_told_within_a_quarter(
    folder: Path, world_of: Callable[..., World], changes: dict[str, object]
) -> None:
    config = TeacherConfig(batch_size=32, network=SMALL).with_overrides(changes)
    loss, network, said = teacher_losses(config, world_of({"problems": folder}))
    assert 0.75 * said < kept_by_autograd(loss, network) < 1.1 * said
    assert 0.75 * said < highest(loss, network) < 1.25 * said


@pytest.mark.parametrize("changes", [{}, LEARNT, {"network.layers": 1}])
def test_what_a_recomputed_loop_needs_is_told_within_a_quarter_and_is_much_less(
    folder: Path, world_of: Callable[..., World], changes: dict[str, object]
) -> None:
    config = TeacherConfig(batch_size=32, network=SMALL, recompute=True).with_overrides(changes)
    loss, network, said = teacher_losses(config, world_of({"problems": folder}))
    needed = highest(loss, network)
    assert 0.75 * said < needed < 1.25 * said
    unrolled, network, _ = teacher_losses(config.but(recompute=False), world_of({"problems": folder}))
    assert needed < 0.5 * highest(unrolled, network)


@pytest.mark.parametrize(("positions", "dropout"), [*((positions, 0.0) for positions in POSITIONS), ("rope", 0.1)])
def test_what_a_student_keeps_is_told_within_a_quarter(
    folder: Path, world_of: Callable[..., World], positions: str, dropout: float
) -> None:
    network = SMALL.but(positions=positions, dropout=dropout)
    loss, module, said = student_losses(StudentConfig(batch_size=32, network=network), world_of({"problems": folder}))
    assert 0.75 * said < kept_by_autograd(loss, module) < 1.1 * said
    assert 0.75 * said < highest(loss, module) < 1.25 * said


def test_a_stage_needs_what_stays_and_its_longest_problems() -> None:
    teacher = TeacherOnData(data=DATA, batch_size=32, network=SMALL)
    parameters = teacher_parameters(teacher, 12)
    longest = teacher_activations(teacher, 12, [32] * 5, 2 * 5 + 2 + 1, 4)
    assert teacher_bytes(teacher, ALONE) == trained_bytes(parameters, parameters, ALONE) + longest
    student = StudentOnData(data=DATA, batch_size=32, network=SMALL)
    parameters = student_parameters(SMALL, 12)
    read = 5**2 + 3 * 5 + 1  # tokens of problem, 4 rounds and answer; EOS is only written
    longest = student_activations(SMALL, 12, 32, read, 4)
    assert student_bytes(student, ALONE) == trained_bytes(parameters, parameters, ALONE) + longest
    assert student_bytes(student.but(new_share=0.5), ALONE) > student_bytes(student, ALONE)
    assert teacher_bytes(teacher, WorkerGroup(workers=4)) - trained_bytes(
        parameters, parameters, ALONE
    ) < 0.3 * teacher_bytes(teacher, ALONE)


@pytest.mark.parametrize("make", [gpu, paper])
def test_large_presets_fit_one_gpu(make: Callable[[], RelayConfig]) -> None:
    check_memory(make(), ONE_GPU)
    assert all(stage.bytes_per_worker(ALONE) > 2**30 for stage in make().trained_stages().values())


def test_a_batch_too_large_is_refused_with_one_that_fits() -> None:
    large = laptop().with_overrides({"teacher.batch_size": 65_536})
    with pytest.raises(
        ConfigError, match=r"teacher: a batch of 65536 needs .* GiB .*\n.*\n.*--set teacher\.batch_size=1024"
    ):
        check_memory(large, LAPTOP.but(memory_gib_per_worker=0.5))


def test_buckets_make_less_be_there_at_once() -> None:
    stages = paper().trained_stages()
    whole = stages["teacher"].with_overrides({"mix.buckets": 1})
    assert stages["teacher"].bytes_per_worker(ALONE) < 0.6 * whole.bytes_per_worker(ALONE)
