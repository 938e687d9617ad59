"""How near PPO with each layout comes to its exact optimum, with decoders on a tree of 243 responses; one thread.

    python -m benchmarks.rto_optimum                        # five layouts, three seeds; one JSON line a layout
    python -m benchmarks.rto_optimum --layouts rto --seeds 0

Distances are total variations from the law that the layout's reward makes best, by the sum over all responses:
`before` of the reference, `after` of the policy, seed by seed. A seed is a tree, its networks and its samples.
"""

import argparse
import json
import tempfile
from pathlib import Path
from time import process_time
from typing import cast, get_args

import torch

from models.rto.reward_config import Layout
from tests.models.rto.on_tree import STAGE, DecodersOnTree, total_variation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", default=",".join(get_args(Layout)))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--iterations", type=int, default=STAGE.iterations)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for layout in arguments.layouts.split(","):
        before, after, begin = [], [], process_time()
        for seed in map(int, arguments.seeds.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                case = DecodersOnTree(Path(folder), cast(Layout, layout), seed=seed, iterations=arguments.iterations)
                optimum = case.optimum()
                before.append(round(total_variation(case.probabilities(case.reference), optimum), 4))
                after.append(round(total_variation(case.trained(), optimum), 4))
        line = {"layout": layout, "rollouts": arguments.iterations * STAGE.rollouts, "before": before, "after": after}
        seconds = (process_time() - begin) / len(after)
        print(json.dumps(line | {"processor_seconds": round(seconds, 1)}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
