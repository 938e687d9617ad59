"""What the shell offers when Tab is pressed: names that fit here, found without loading anything heavy."""

import json
import re
from collections.abc import Iterator
from typing import Any

import typer
from typer import _completion_shared as typers_scripts

from models.common.errors import OrchardError

# Typer's own script hands over bash's words, which bash breaks at '@', ':' and '=': 'relay@v0.1.0' would be three.
# Of an answer, bash wants what follows the last break only; a '@' belongs to what follows.
_BASH = """
%(complete_func)s() {
    local words current kept IFS=$' \\t\\n'
    read -ra words <<<"${COMP_LINE:0:COMP_POINT}"
    [[ ${COMP_LINE:COMP_POINT-1:1} == [[:space:]] ]] && words+=("")
    current=${words[-1]}
    kept=${current%%"${current##*[$COMP_WORDBREAKS]}"}
    kept=${kept%%@}
    IFS=$'\\n'
    COMPREPLY=($(COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) %(autocomplete_var)s=complete_bash "$1"))
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
}

complete -o default -o nosort -F %(complete_func)s %(prog_name)s
"""


def use_own_bash_script() -> None:
    """Lets --install-completion and --show-completion give a bash script that knows versions from host names."""
    typers_scripts._completion_scripts["bash"] = _BASH


def workloads() -> list[str]:
    from models.common import workloads

    return workloads.names()


def presets(ctx: typer.Context) -> list[str]:
    """Those of the workload that stands on the line already; else those that all workloads have."""
    from models.common import workloads

    named = _workload(ctx)
    return workloads.preset_names(named) if named else ["tiny", "laptop", "gpu", "paper"]


def _workload(ctx: typer.Context) -> str | None:
    """Where an option still lacks its value, the words before it are not sorted out yet, and are in `ctx.args`."""
    words = (ctx.params.get("workload"), *ctx.args)
    return next((word for word in words if word in workloads()), None)


def clusters() -> list[str]:
    from infra import clusters

    return clusters.names()


def faults() -> list[str]:
    from infra.drill.drilling import names

    return names(core=False)


def fields(ctx: typer.Context) -> list[str]:
    """`teacher.max_steps=200` and the like: what `--set` can change, as the preset has it."""
    from models.common import workloads

    try:
        config = workloads.preset(_workload(ctx) or "", ctx.params.get("preset") or "laptop")
    except OrchardError:
        return []
    return [f"{path}={value}" for path, value in _leaves(config.model_dump(mode="json")) if _is_one_word(value)]


def _leaves(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", json.dumps(value) if not isinstance(value, str) else value


def _is_one_word(value: str) -> bool:
    return re.fullmatch(r"[\w.,:+-]+", value) is not None


def run_names() -> list[str]:
    from infra import suggestions

    return suggestions.run_names()


def stages(ctx: typer.Context) -> list[str]:
    """Those of the run that stands on the line."""
    from infra import suggestions

    words = (ctx.params.get("run_name"), *ctx.args)
    return [stage for word in words if word for stage in suggestions.stages(word)]


def artifacts() -> list[str]:
    from infra import suggestions

    return suggestions.artifact_names()


def versions() -> list[str]:
    """NAME@VERSION."""
    from infra import suggestions

    return suggestions.versions()


def specs() -> list[str]:
    """All that names a version: NAME, NAME@VERSION, NAME#STAGE."""
    from infra import suggestions

    return [*suggestions.artifact_names(), *suggestions.held_stages(), *suggestions.versions()]
