"""Causal language models of `transformers` behind the interface of our own decoder: full weights, or adapters.

Both libraries belong to the extra `orchard[llm]`; they are imported inside functions, here and in `text_score.py` and
`tokenizer.py`.
"""

# B prompts   G responses of each   P prompt tokens   R response tokens   T = R + 1 states   V vocabulary   D width
# M = B x G rows   L tokens of a row, prompt and response without a gap   N real response tokens   S real states
# X rows that are being decoded   K keys in their cache

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.common.errors import ConfigError, DataError
from models.common.weights import load_weights
from models.rto.network import Policy, load_into
from models.rto.policy_config import HuggingFaceConfig
from models.rto.sequences import Sequences
from models.rto.shapes import KNOWN

TRAINED = "actor"  # the adapter that a stage trains and publishes
PROBE = 3  # tokens that a model is tried on


def require(extra: str) -> Any:
    """The library `transformers` or `peft`; raises ConfigError where it is not installed."""
    import importlib

    try:
        return importlib.import_module(extra)
    except ImportError as error:
        raise ConfigError(
            f"{extra} cannot be imported ({error}), which policies of kind 'huggingface' need\n"
            "fits: a policy of kind 'decoder', or the extra of Orchard that has it\n"
            "try: make llm in the checkout, or pip install '.[llm]'"
        ) from None


def read_shape(config: HuggingFaceConfig) -> Any:
    """The model's own config, from its folder or the Hub; raises ConfigError where it cannot be had or does not fit."""
    transformers = require("transformers")
    try:
        shape = transformers.AutoConfig.from_pretrained(config.model, revision=config.revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(_unreadable(config, error)) from None
    return _fitting(config, shape)


def find_shape(config: HuggingFaceConfig) -> Any | None:
    """The model's own config as far as it is at hand: in a folder, among the downloads, or known here; else None."""
    transformers = require("transformers")
    try:
        shape = transformers.AutoConfig.from_pretrained(
            config.model, revision=config.revision, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError):
        if config.model not in KNOWN:
            return None
        shape = transformers.AutoConfig.for_model(**KNOWN[config.model])
    return _fitting(config, shape)


def _fitting(config: HuggingFaceConfig, shape: Any) -> Any:
    """The shape without dropout: the policy that sampled has to be the one that is trained."""
    for name, value in shape.to_dict().items():
        if ("drop" in name or name.endswith("_pdrop")) and isinstance(value, float):
            setattr(shape, name, 0.0)
    positions = getattr(shape, "max_position_embeddings", None)
    if positions is not None and config.context > positions:
        raise ConfigError(
            f"a context of {config.context} tokens is asked of {config.model}, which has {positions} positions\n"
            f"fits: at most {positions}\ntry: policy.context={positions}"
        )
    return shape


def _unreadable(config: HuggingFaceConfig, error: Exception) -> str:
    where = config.model if config.revision is None else f"{config.model} at revision {config.revision}"
    found = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"{where} cannot be read as a causal language model: {found}\n"
        "fits: a folder with config.json and weights in safetensors, or a name on the Hub that this machine reaches\n"
        "download it first, as in: hf download NAME --local-dir FOLDER, and set the policy's model=FOLDER"
    )


def _build(config: HuggingFaceConfig, *, pretrained: bool) -> nn.Module:
    """The causal language model in float32, on the CPU; its weights have no meaning yet where not `pretrained`."""
    transformers = require("transformers")
    shape = read_shape(config)
    options = {"dtype": torch.float32, "attn_implementation": "sdpa"}
    try:
        if config.weights == "random":
            # One seed for all: adapters of several stages belong to one base, which no stage's folder holds.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return transformers.AutoModelForCausalLM.from_config(shape, **options)
        if not pretrained:
            from transformers.initialization import no_init_weights

            with no_init_weights():
                model = transformers.AutoModelForCausalLM.from_config(shape, **options)
            model.tie_weights()
            return model
        # Neither code nor pickles of a model that somebody put on the Hub.
        return transformers.AutoModelForCausalLM.from_pretrained(
            config.model,
            revision=config.revision,
            config=shape,
            trust_remote_code=False,
            use_safetensors=True,
            **options,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(_unreadable(config, error)) from None


def build_empty(config: HuggingFaceConfig, shape: Any) -> Any:
    """The model with its adapters, but without storage: what its parameters are counted on."""
    transformers = require("transformers")
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(shape)
        if config.lora is not None:
            _adapt(model.base_model, config, (TRAINED,))
    return model


class Backbone(nn.Module):
    """A causal language model without its head, with adapters where the config asks for them."""

    def __init__(self, config: HuggingFaceConfig, model: nn.Module, adapters: Sequence[str] = (TRAINED,)) -> None:
        super().__init__()
        self.model: Any = model.base_model
        self.context = config.context
        embedding = self.model.get_input_embeddings()
        self.vocabulary: int = embedding.num_embeddings
        self.width: int = self.model.config.hidden_size
        if config.recompute:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        self.adapters = tuple(adapters) if config.lora is not None else ()
        if config.lora is not None:
            _adapt(self.model, config, self.adapters)
        self.train()

    def states(self, sequences: Sequences, *, final: bool) -> Tensor:
        """The states before the real response tokens, in their order, [N, D]; with `final`, of all real states [S, D].

        Prompt and response stand without a gap, and padding comes last: causal attention needs no mask for it.
        """
        rows = _join(sequences)
        self._check_length(rows.tokens_ML.shape[1])
        states_MLD = self.model(input_ids=rows.tokens_ML, use_cache=False).last_hidden_state
        return states_MLD[rows.is_state_ML if final else rows.is_state_ML & rows.has_next_ML]

    def prefill(
        self, prompts_BP: Tensor, prompt_real_BP: Tensor, group: int, most: int
    ) -> tuple[DecodingCache, Tensor]:
        """A cache that holds each prompt `group` times, with room for `most` tokens more; and the states after.

        Both have B x G rows, X.
        """
        self._check_length(int(prompt_real_BP.sum(dim=-1).max()) + most)
        positions_BP = (prompt_real_BP.long().cumsum(dim=-1) - 1).clamp(min=0)
        result = self._run_with_cache(
            input_ids=prompts_BP.masked_fill(~prompt_real_BP, 0),
            attention_mask=prompt_real_BP.long(),
            position_ids=positions_BP,
        )
        past = result.past_key_values
        past.batch_repeat_interleave(group)
        seen_BP = prompt_real_BP.long().repeat_interleave(group, dim=0)
        seen_XK = torch.cat([seen_BP, seen_BP.new_ones(seen_BP.shape[0], most)], dim=1)
        next_X = (positions_BP[:, -1] + 1).repeat_interleave(group)
        cache = DecodingCache(past, seen_XK, next_X, prompts_BP.shape[1])
        return cache, result.last_hidden_state[:, -1].repeat_interleave(group, dim=0)

    def advance(self, tokens_X: Tensor, cache: DecodingCache) -> Tensor:
        """The states after one token more in each of the cache's rows, [X, D]."""
        cache.columns += 1
        result = self._run_with_cache(
            input_ids=tokens_X[:, None],
            attention_mask=cache.seen_XK[:, : cache.columns],
            position_ids=cache.next_X[:, None],
            past_key_values=cache.past,
        )
        cache.next_X = cache.next_X + 1
        return result.last_hidden_state[:, -1]

    def _run_with_cache(self, **inputs: Any) -> Any:
        """A forward pass that fills the cache. Layers that recompute would drop it, without an error."""
        recomputing = [layer for layer in self.model.modules() if getattr(layer, "gradient_checkpointing", False)]
        for layer in recomputing:
            layer.gradient_checkpointing = False
        try:
            return self.model(**inputs, use_cache=True)
        finally:
            for layer in recomputing:
                layer.gradient_checkpointing = True

    def _check_length(self, tokens: int) -> None:
        if tokens > self.context:
            raise DataError(
                f"prompt and response have {tokens} tokens, and the policy's context is {self.context}\n"
                "try a larger context, as far as the model has positions, or shorter prompts and responses"
            )

    @contextmanager
    def using(self, adapter: str | None) -> Iterator[None]:
        """With this adapter, or with none, instead of the one that is trained; what requires a gradient stays so."""
        layers = _adapter_layers(self)
        flags = [(p, p.requires_grad) for layer in layers for p in layer.parameters()]
        try:
            for layer in layers:
                if adapter is None:
                    layer.enable_adapters(enabled=False)
                else:
                    layer.set_adapter([adapter])
            yield
        finally:
            for layer in layers:
                layer.set_adapter([TRAINED])
                layer.enable_adapters(enabled=True)
            for parameter, flag in flags:
                parameter.requires_grad_(flag)


@dataclass
class DecodingCache:
    """The keys and values of the rows that are being decoded."""

    past: Any
    seen_XK: Tensor  # 1 where a key may be looked at, as far as the longest response
    next_X: Tensor  # the position of each row's next token
    columns: int  # of the keys so far

    def keep(self, rows_X: Tensor) -> None:
        """Forgets all rows but these."""
        if rows_X.dtype == torch.bool:
            rows_X = rows_X.nonzero().flatten()
        self.past.batch_select_indices(rows_X)
        self.seen_XK, self.next_X = self.seen_XK[rows_X], self.next_X[rows_X]


@dataclass(frozen=True)
class _Rows:
    """Each prompt with one response, without a gap; what is not real comes last."""

    tokens_ML: Tensor
    is_state_ML: Tensor  # from the prompt's last token to the response's last
    has_next_ML: Tensor  # whether another token of the row follows


def _join(sequences: Sequences) -> _Rows:
    prompts_BP, group = sequences.prompts_BP, sequences.responses_BGR.shape[1]
    prompt_B = sequences.prompt_real_BP.sum(dim=-1)
    length_BG1 = (prompt_B[:, None] + sequences.lengths_BG)[..., None]
    both_BGX = torch.cat([prompts_BP[:, None].expand(-1, group, -1), sequences.responses_BGR], dim=-1)
    column_L = torch.arange(int(length_BG1.max()), device=prompts_BP.device)
    from_BL = (column_L + (prompts_BP.shape[1] - prompt_B)[:, None]).clamp(max=both_BGX.shape[-1] - 1)
    tokens_BGL = both_BGX.gather(-1, from_BL[:, None].expand(-1, group, -1))
    real_BGL = column_L < length_BG1
    return _Rows(
        tokens_ML=tokens_BGL.masked_fill(~real_BGL, 0).flatten(0, 1),
        is_state_ML=(real_BGL & (column_L >= (prompt_B - 1)[:, None, None])).flatten(0, 1),
        has_next_ML=(column_L + 1 < length_BG1).flatten(0, 1),
    )


def _adapt(model: nn.Module, config: HuggingFaceConfig, adapters: Sequence[str]) -> None:
    """Puts the adapters into the model; afterwards only the one that is trained requires a gradient."""
    peft, lora = require("peft"), config.lora
    assert lora is not None
    targets = _adapted_layers(model, config)
    for name in adapters:
        settings = peft.LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, lora_dropout=0.0, bias="none"
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several are wanted
            peft.inject_adapter_in_model(settings, model, adapter_name=name)
    for layer in _adapter_layers(model):
        layer.set_adapter([TRAINED])


def _adapter_layers(model: nn.Module) -> list[Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def _adapted_layers(model: nn.Module, config: HuggingFaceConfig) -> list[str]:
    """The full names of the layers that get an adapter; raises ConfigError where a name fits none of them."""
    linear = [name for name, module in model.named_modules() if type(module).__name__ in ("Linear", "Conv1D")]
    assert config.lora is not None
    if config.lora.targets == "all-linear":
        return linear
    kinds = sorted({name.rpartition(".")[2] for name in linear})
    for target in config.lora.targets:
        if target not in kinds:
            raise ConfigError(
                f"lora.targets names '{target}', and {config.model} has no linear layer of that name\n"
                f"fits: {', '.join(kinds)}, or all-linear"
            )
    return [name for name in linear if name.rpartition(".")[2] in config.lora.targets]


def make_policy(config: HuggingFaceConfig, vocabulary: int) -> Policy:
    """The policy with the model's published weights (or random ones, where the config says so)."""
    return build_policy(config, vocabulary, pretrained=True, adapters=(TRAINED,))


def make_backbone(config: HuggingFaceConfig, vocabulary: int) -> Backbone:
    """The network under a critic or a reward model, with the model's published weights."""
    backbone = Backbone(config, _build(config, pretrained=True))
    _check_vocabulary(config, backbone, vocabulary)
    return backbone


def read_policy(config: HuggingFaceConfig, folder: Path | None, vocabulary: int, device: torch.device) -> Policy:
    """The policy with a trained stage's weights; the model's published ones where there is no folder."""
    pretrained = folder is None or config.lora is not None  # what a stage publishes of adapters is not the whole
    policy = build_policy(config, vocabulary, pretrained=pretrained, adapters=(TRAINED,))
    if folder is not None:
        load_into(policy, load_weights(folder), folder)
    return policy.to(device)


def build_policy(config: HuggingFaceConfig, vocabulary: int, *, pretrained: bool, adapters: Sequence[str]) -> Policy:
    model: Any = _build(config, pretrained=pretrained)
    head = model.get_output_embeddings()
    if pretrained:  # else its weights are none yet; and a stage's folder is of a model that was looked at
        _check_head(config, model, head)
    backbone = Backbone(config, model, adapters)
    _check_vocabulary(config, backbone, vocabulary)
    if config.lora is not None:
        head.requires_grad_(requires_grad=False)
    policy = Policy(backbone, tied=True)
    policy.head = head  # the model's own, which may be tied to its embedding or have a bias
    return policy


def _check_vocabulary(config: HuggingFaceConfig, backbone: Backbone, vocabulary: int) -> None:
    if vocabulary > backbone.vocabulary:
        raise ConfigError(
            f"the data's vocabulary has {vocabulary} tokens, and {config.model} knows {backbone.vocabulary}\n"
            "fits: the model's own tokenizer, with which the data are to be prepared"
        )


def _check_head(config: HuggingFaceConfig, model: Any, head: Any) -> None:
    """Raises ConfigError for a model whose logits are not just its head of its last states, as of a soft cap."""
    tokens = torch.arange(PROBE)[None] % model.config.vocab_size
    with torch.no_grad():
        logits = model(input_ids=tokens, use_cache=False).logits
        ours = None if head is None else head(model.base_model(input_ids=tokens, use_cache=False).last_hidden_state)
    if ours is None or not torch.allclose(ours, logits, rtol=1e-4, atol=1e-4):
        raise ConfigError(
            f"{config.model} ({type(model).__name__}) computes its logits otherwise than by a linear head of its last "
            "states\nfits: such as Llama, Mistral, Qwen, Phi, OLMo and Pythia; not Gemma 2, Cohere or Granite"
        )


def backbone_of(policy: Policy) -> Backbone:
    assert isinstance(policy.backbone, Backbone)
    return policy.backbone
