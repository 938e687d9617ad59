"""Our side of RELAY's speed comparison; answers `relay_speed.py`'s requests on stdin.

The learners run as they are, with the plain engine (`TorchEngine`); a training step has all of it in: drawing problems,
solving them, the update, and what is told of it.
"""

# B rows   S positions   W tokens written   N rows times positions   D width

import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import numpy as np
import relay_work as work
import torch
from rto_work import serve, timed
from safetensors.torch import save_file
from torch import Tensor

from infra import collectives
from infra.clusters import Cluster
from infra.engine import engine_factory
from models.common.contract import World
from models.relay.chains import chains_batches, draw_chains
from models.relay.config import StudentConfig, TeacherConfig
from models.relay.data_config import ProblemsData, TaskLengths
from models.relay.decoding import write_on
from models.relay.network import Decoder
from models.relay.network_config import MixConfig, NetworkConfig, OptimizerConfig
from models.relay.problems import Group, Problems
from models.relay.rounds import RoundsBatch, draw_rounds, rounds_batches
from models.relay.student import StudentLearner
from models.relay.task import FIRST_SYMBOL
from models.relay.tasks.arithmetic import Arithmetic
from models.relay.teacher import TeacherLearner

CPU = torch.device("cpu")
OPTIMIZER = OptimizerConfig(learning_rate=work.LEARNING_RATE, warmup_steps=0, decay_steps=0)
TASKS = {
    "laptop": TaskLengths(),
    "paper": TaskLengths(
        task=Arithmetic(modulus=11, operators=("+", "-", "*", "/"), brackets=True),
        train_lengths=tuple(range(1, 16)),
        label_lengths=(16,),
        untouched_lengths=(),
    ),
}
TASKS["paper-mixed"] = TASKS["paper"]
LONGEST = {"laptop": 8, "paper": 15}  # operators of the problems that are decoded

Answer = dict[str, Any]


@cache
def problems_folder(shape: str) -> Path:
    folder = Path(tempfile.mkdtemp())
    ProblemsData(tasks=(TASKS[shape],), tests_per_length=work.SHAPES[shape].asked).prepare(folder)
    return folder


def make_world(shape: str, precision: Literal["fp32", "bf16"] = "fp32") -> World:
    torch.manual_seed(0)
    return World(
        rank=0,
        size=1,
        device=CPU,
        seed=0,
        inputs={"problems": problems_folder(shape)},
        start_from=None,
        fingerprints={},
        make_engine=engine_factory(Cluster(name="benchmark", workers=1, engine="torch", precision=precision), CPU),
        mean=collectives.mean,
        sum=collectives.total,
        gather=collectives.gather,
        exchange=collectives.exchange,
        clock=monotonic,
    )


def network_of(shape: work.Shape) -> NetworkConfig:
    return NetworkConfig(
        layers=shape.layers, width=shape.width, heads=shape.heads, feed_forward_width=shape.feed_forward_width
    )


def repeated(learner: StudentLearner | TeacherLearner, steps: int) -> Callable[[], None]:
    """The learner's first steps over and over: what is drawn is a function of the step."""

    def call() -> None:
        learner.descent.steps_done = 0
        for _ in range(steps):
            learner.step()

    return call


def prepare_student(name: str) -> Callable[[int], Answer]:
    """Steps of the student, whose batches are left for the others."""
    shape, world = work.SHAPES[name], make_world(name)
    mix = MixConfig(draws=shape.draws, buckets=shape.buckets)
    config = StudentConfig(batch_size=shape.batch, network=network_of(shape), optimizer=OPTIMIZER, mix=mix)
    learner = StudentLearner(config, world)
    assert len(learner.problems.vocabulary) == shape.vocabulary, "the others have a network for another vocabulary"
    batches, tokens = {}, 0
    for step in range(shape.steps):
        chains = draw_chains(learner.problems, None, config, world.seed, learner.stream, step)
        (batch,) = chains_batches(chains, config.but(mix=MixConfig()), world)  # the others have no buckets
        tokens += batch.filled
        learnt_N = np.zeros(batch.computed, bool)
        learnt_N[batch.picked_N] = True
        batches |= {f"tokens_{step}": batch.tokens_BS, f"learnt_{step}": learnt_N.reshape(len(batch.tokens_BS), -1)}
    np.savez(work.place(name, "batches.npz"), allow_pickle=False, **batches)
    return counted(repeated(learner, shape.steps), tokens=tokens)


def prepare_width(width: int, precision: Literal["fp32", "bf16"]) -> Callable[[int], Answer]:
    """Steps of a student of this width."""
    rows, steps = work.WIDTHS[width]
    name = "laptop" if width == 64 else "paper"
    world = make_world(name, precision)
    network = NetworkConfig(layers=2, width=width, heads=max(4, width // 64), feed_forward_width=4 * width)
    config = StudentConfig(batch_size=rows, network=network, optimizer=OPTIMIZER)
    learner = StudentLearner(config, world)
    drawn = [draw_chains(learner.problems, None, config, 0, learner.stream, step) for step in range(steps)]
    tokens = sum(batch.filled for chains in drawn for batch in chains_batches(chains, config, world))
    return counted(repeated(learner, steps), tokens=tokens)


def teacher_of(name: str) -> tuple[TeacherLearner, list[RoundsBatch]]:
    """The teacher with all its rounds unrolled, and what its first steps work on."""
    shape, world = work.SHAPES[name], make_world(name)
    config = TeacherConfig(batch_size=shape.batch, network=network_of(shape), optimizer=OPTIMIZER)
    learner = TeacherLearner(config, world)
    batches = []
    for step in range(shape.teacher_steps):
        rounds, rng = draw_rounds(learner.problems, config, world.seed, step)
        batches += rounds_batches(rounds, config, learner.curriculum.most, rng, world)
    return learner, batches


def prepare_teacher(name: str) -> Callable[[int], Answer]:
    learner, batches = teacher_of(name)
    return counted(repeated(learner, work.SHAPES[name].teacher_steps), tokens=sum(batch.computed for batch in batches))


def prepare_limit(name: str) -> Callable[[int], Answer]:
    """The matrix products alone of the teacher's steps, forward and backward."""
    shape, (_, batches) = work.SHAPES[name], teacher_of(name)
    products, operations = [], 0
    for batch in batches:
        for rows in batch.rows_T:
            made = of_an_iteration(shape, rows, batch.tokens_BS.shape[1])
            products += made
            operations += sum(2 * a.numel() * b.shape[-1] for a, b, _ in made)

    @torch.inference_mode()
    def call() -> None:
        for a, b, out in products:
            torch.matmul(a, b, out=out)

    return counted(call, operations=operations)


def of_an_iteration(shape: work.Shape, rows: int, positions: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Factors and results of all the products of one iteration; those of equal shape share their memory."""
    count, width, inner = rows * positions, shape.width, shape.feed_forward_width
    made = []
    for i, o in ((width, 3 * width), (width, width), (width, inner), (inner, width)):
        made += [product((count, i), (i, o)), product((count, o), (o, i)), product((i, count), (count, o))]
    heads, each = rows * shape.heads, width // shape.heads
    score, mix = (positions, each, positions), (positions, positions, each)
    for i, j, k in (score, mix, score, mix, mix, mix):  # Q K' and P V; in the backward pass two for each factor
        made.append(product((heads, i, j), (heads, j, k)))
    return made * shape.layers


@cache
def product(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(a), torch.randn(b), torch.empty(*a[:-1], b[-1])


@cache
def decoder(name: str) -> tuple[Decoder, np.ndarray]:
    """A student that never ends before it has to, and problems of one width; both are left for the others."""
    shape = work.SHAPES[name]
    torch.manual_seed(0)
    network = Decoder(network_of(shape), shape.vocabulary).eval()
    with torch.no_grad():
        network.head.bias.zero_()  # GPT-NeoX has none
        symbols_VD = network.head.weight[FIRST_SYMBOL:]
        symbols_VD -= symbols_VD.mean(dim=0)  # so that one of them is always above 0,
        network.head.weight[:FIRST_SYMBOL] = 0.0  # where PAD and EOS are
    problems = Problems.read(problems_folder(name))
    group = Group("arithmetic", LONGEST[name])
    drawn_PL = problems.draw(np.random.default_rng(0), group, 64 * shape.asked)
    widths_P = (drawn_PL > 0).sum(axis=1)
    width = np.bincount(widths_P).argmax()
    asked_PL = drawn_PL[widths_P == width][: shape.asked, :width]
    assert len(asked_PL) == shape.asked, "too few problems of the most frequent width"
    save_file(network.state_dict(), work.place(name, "weights.safetensors"))
    np.save(work.place(name, "asked.npy"), asked_PL)
    return network, asked_PL


def prepare_decoding(name: str) -> Callable[[int], Answer]:
    shape, (network, asked_PL) = work.SHAPES[name], decoder(name)

    def call() -> None:
        written_PW, _ = write_on(network, asked_PL, shape.written)
        np.save(work.place(name, "written.npy"), written_PW)

    return counted(call, tokens=shape.asked * shape.written)


def prepare_anew(name: str) -> Callable[[int], Answer]:
    """The way of the CoT benchmark: rows have their full length from the start, and go through the network whole.

    Its first tokens are timed, since each costs as much as any other; those that follow are not.
    """
    shape, (network, asked_PL) = work.SHAPES[name], decoder(name)
    first = asked_PL.shape[1]
    rows_BS = torch.zeros(shape.asked, first + shape.written, dtype=torch.int64)
    rows_BS[:, :first] = torch.from_numpy(asked_PL.astype(np.int64))

    @torch.inference_mode()
    def call() -> None:
        for place in range(first, first + shape.anew):
            rows_BS[:, place] = network(rows_BS)[:, place - 1].argmax(dim=-1)

    def same() -> float:
        """The share of tokens that the cached way writes too."""
        written_PW = np.load(work.place(name, "written.npy"))
        return float((rows_BS[:, first : first + shape.anew].numpy() == written_PW[:, : shape.anew]).mean())

    return lambda repeats: counted(call, tokens=shape.asked * shape.anew)(repeats) | {"same_tokens": same()}


def counted(call: Callable[[], None], **counts: int) -> Callable[[int], Answer]:
    """Times calls, and says how much each of them does."""
    return lambda repeats: {**timed(call, repeats), **counts}


def prepare(request: dict[str, Any]) -> Callable[[int], Answer]:
    kinds = {
        "student": prepare_student,
        "teacher": prepare_teacher,
        "limit": prepare_limit,
        "decoding": prepare_decoding,
        "anew": prepare_anew,
    }
    if request["work"] == "width":
        answer = prepare_width(request["width"], request["precision"])
    else:
        answer = kinds[request["work"]](request["shape"])
    answer(1)
    return answer


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        serve(prepare)
