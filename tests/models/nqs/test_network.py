"""Each ansatz against its formula, configuration by configuration and in plain numpy loops."""

# W walkers   N sites   M = 2N spin-orbitals   K determinants   E electrons

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from models.common.errors import ConfigError
from models.nqs.ansatz import Ansatz
from models.nqs.ansatz_config import AnsatzConfig
from models.nqs.convolutional import neighbourhood
from models.nqs.determinants import log_sum_of_determinants
from models.nqs.network import TransformerBackflow, make_ansatz
from models.nqs.sector import Sector
from models.nqs.system import SystemConfig

LADDER = SystemConfig(lattice="4x2", boundary="periodic,open", filling="3,2", U=8.0)
SQUARE = SystemConfig(lattice="3x3", boundary="antiperiodic,open", filling="4,3", U=8.0)

ALL_KINDS = [
    AnsatzConfig(width=12, heads=3, determinants=2, head_scale=0.5),
    AnsatzConfig(width=12, heads=3, complex=True, head_scale=0.5, bias=False),
    AnsatzConfig(kind="ace", width=6, mlp_width=10, layers=3, kernel=3, determinants=2, head_scale=0.5),
    AnsatzConfig(kind="ace", width=6, layers=1, kernel=5, complex=True, head_scale=0.5),
    AnsatzConfig(kind="scale", width=6, mlp_width=10, mlp_layers=3, determinants=3, head_scale=0.5),
    AnsatzConfig(kind="slater_jastrow"),
    AnsatzConfig(kind="slater_jastrow", generalised=False, start="hartree_fock", complex=True),
    AnsatzConfig(kind="mean_field"),
]
NAMES = [f"{config.kind}-{number}" for number, config in enumerate(ALL_KINDS)]
every_kind = pytest.mark.parametrize("config", ALL_KINDS, ids=NAMES)
both_systems = pytest.mark.parametrize("system", [LADDER, SQUARE], ids=["4x2", "3x3"])


def made(config: AnsatzConfig, system: SystemConfig, seed: int = 0) -> Ansatz:
    """The ansatz, with no parameter at a special value such as a bias of 0."""
    torch.manual_seed(seed)
    ansatz = make_ansatz(config, system)
    with torch.no_grad():
        for parameter in ansatz.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return ansatz


def some(system: SystemConfig, walkers: int = 12) -> Tensor:
    """Configurations drawn evenly from the whole sector."""
    everything = Sector(system.sites, *system.particles).all()
    chosen = torch.randperm(len(everything), generator=torch.Generator().manual_seed(1))[:walkers]
    return everything[chosen]


def amplitude(ansatz: Ansatz, occupied_WM: Tensor) -> np.ndarray:
    log_W, sign_W = ansatz(occupied_WM)
    return (log_W.exp() * sign_W).detach().numpy()


# The references: one configuration, lists of ints and numpy arrays, no batches.


def silu(x):
    return x / (1 + np.exp(-x))


def layer_norm(x, weight, bias):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-4) * weight + bias


def transformer_features(P: dict, occupied: np.ndarray, config: AnsatzConfig) -> np.ndarray:
    sites, head_width = len(occupied) // 2, config.width // config.heads
    x = [P["state_embedding"][occupied[i] + 2 * occupied[i + sites]] + P["position_embedding"][i] for i in range(sites)]
    for layer in range(config.layers):
        name = f"layers.{layer}."
        query, key, value = (P[name + f"attention.{which}.weight"] for which in ("query", "key", "value"))
        y = []
        for i in range(sites):
            seen = []
            for head in range(config.heads):
                part = slice(head * head_width, (head + 1) * head_width)
                score = [(query[part] @ x[i]) @ (key[part] @ x[j]) / math.sqrt(head_width) for j in range(sites)]
                weight = np.exp(score) / np.exp(score).sum()
                seen.append(sum(weight[j] * (value[part] @ x[j]) for j in range(sites)))
            y.append(x[i] + P[name + "attention.out.weight"] @ np.concatenate(seen))
        bias = P.get(name + "feed_forward.bias", 0.0)
        x = [each + silu(P[name + "feed_forward.weight"] @ each + bias) for each in y]
    return np.array(x)


def convolved(P: dict, name: str, x: np.ndarray, config: AnsatzConfig, system: SystemConfig) -> np.ndarray:
    length_x, length_y = system.shape
    reach = config.kernel // 2
    kernel = P[name + ".mix.weight"].reshape(config.width, config.kernel, config.kernel, config.width)
    out = np.zeros_like(x)
    for site in range(system.sites):
        for step_x in range(-reach, reach + 1):
            for step_y in range(-reach, reach + 1):
                place = [site // length_y + step_x, site % length_y + step_y]
                inside = [0 <= place[0] < length_x, 0 <= place[1] < length_y]
                if all(found or boundary != "open" for found, boundary in zip(inside, system.boundaries, strict=True)):
                    other = place[0] % length_x * length_y + place[1] % length_y
                    out[site] += kernel[:, step_x + reach, step_y + reach] @ x[other]
    return out + P[name + ".mix.bias"]


def convolutional_features(P: dict, occupied: np.ndarray, config: AnsatzConfig, system: SystemConfig) -> np.ndarray:
    sites = system.sites
    x = np.array([P["embedding"][4 * i + occupied[i] + 2 * occupied[i + sites]] for i in range(sites)])
    for layer in range(config.layers if config.kind == "ace" else 1):
        x = x + silu(convolved(P, f"convolutions.{layer}", x, config, system))
        if config.kind == "ace":
            x = np.array([layer_norm(each, P[f"norms.{layer}.weight"], P[f"norms.{layer}.bias"]) for each in x])
    for layer in range(config.mlp_layers):
        x = np.array([silu(P[f"mlp.{layer}.weight"] @ each + P[f"mlp.{layer}.bias"]) for each in x])
    return x


def table(P: dict, part: int, system: SystemConfig) -> np.ndarray:
    """The table [K, M, E], with zeros between the spins where it has two blocks."""
    first = P[f"tables.{part}.blocks.0"]
    if f"tables.{part}.blocks.1" not in P:
        return first
    whole = np.zeros((len(first), 2 * system.sites, sum(system.particles)))
    whole[:, : system.sites, : system.particles[0]] = first
    whole[:, system.sites :, system.particles[0] :] = P[f"tables.{part}.blocks.1"]
    return whole


def jastrow(P: dict, occupied: np.ndarray, sites: int) -> float:
    up, dn = occupied[:sites], occupied[sites:]
    exponent, pair = 0.0, 0
    for i in range(sites):
        for j in range(i + 1, sites):
            exponent += P["same_spin"][pair] * (up[i] * up[j] + dn[i] * dn[j])
            exponent += P["opposite_spin"][pair] * (up[i] * dn[j] + up[j] * dn[i])
            pair += 1
    return exponent + sum(P["opposite_spin"][pair + i] * up[i] * dn[i] for i in range(sites))


def reference(ansatz: Ansatz, config: AnsatzConfig, system: SystemConfig, occupied: np.ndarray) -> complex:
    P = {name: parameter.detach().numpy() for name, parameter in ansatz.named_parameters()}
    electrons = sum(system.particles)
    orbitals = 0.0
    for part in range(1 + config.complex):
        rows = table(P, part, system).copy()
        if config.kind in ("transformer", "ace", "scale"):
            if config.kind == "transformer":
                features = transformer_features(P, occupied, config)
            else:
                features = convolutional_features(P, occupied, config, system)
            for spin, name in enumerate(("up", "dn")):
                weight = P[f"orbital_heads.{part}.{name}.weight"]
                for site in range(system.sites):
                    moved = (weight @ features[site]).reshape(config.determinants, electrons)
                    rows[:, spin * system.sites + site] += moved
        orbitals = orbitals + (1, 1j)[part] * rows
    psi = sum(np.linalg.det(one[np.flatnonzero(occupied)]) for one in np.asarray(orbitals))
    return psi * np.exp(jastrow(P, occupied, system.sites)) if config.kind == "slater_jastrow" else psi


@every_kind
@both_systems
def test_amplitudes_are_those_of_the_formulas(config, system):
    ansatz, occupied = made(config, system), some(system)
    expected = [reference(ansatz, config, system, each) for each in occupied.numpy().astype(int)]
    np.testing.assert_allclose(amplitude(ansatz, occupied), expected, rtol=1e-9, atol=1e-13)


def test_a_kernel_wider_than_the_lattice_wraps_around_it():
    system = SystemConfig(lattice="2x1", boundary="periodic,open", filling="1,1", U=1.0)
    np.testing.assert_array_equal(neighbourhood(system, 3), [[2, 1, 2, 2, 0, 2, 2, 1, 2], [2, 0, 2, 2, 1, 2, 2, 0, 2]])
    config = AnsatzConfig(kind="ace", width=4, kernel=7, head_scale=0.5)
    ansatz, occupied = made(config, system), Sector(2, 1, 1).all()
    expected = [reference(ansatz, config, system, each) for each in occupied.numpy().astype(int)]
    np.testing.assert_allclose(amplitude(ansatz, occupied), expected, rtol=1e-9, atol=1e-13)


def test_neighbourhood_is_that_of_torchs_padded_convolution():
    system = SystemConfig(lattice="4x3", boundary="periodic,open", filling="1,1", U=1.0)
    image, kernel = torch.randn(1, 2, 4, 3), torch.randn(5, 2, 3, 3)
    padded = torch.nn.functional.pad(image, (0, 0, 1, 1), mode="circular")
    expected = torch.nn.functional.conv2d(padded, kernel, padding=(0, 1))
    x_ND = torch.cat([image[0].flatten(1).T, torch.zeros(1, 2)])
    around_NPD = x_ND[torch.from_numpy(neighbourhood(system, 3))]
    found = torch.einsum("npd,cdp->cn", around_NPD, kernel.flatten(2))
    torch.testing.assert_close(found, expected[0].flatten(1), rtol=1e-5, atol=1e-5)


@every_kind
def test_orbitals_are_antisymmetric_in_their_rows(config):
    ansatz, occupied = made(config, LADDER), some(LADDER)
    orbitals = ansatz.orbitals(occupied)
    assert orbitals.shape == (12, config.determinants, 5, 5)
    exchanged = orbitals[:, :, [0, 3, 2, 1, 4]]
    (log_W, sign_W), (log_after, sign_after) = map(log_sum_of_determinants, (orbitals, exchanged))
    torch.testing.assert_close(log_after, log_W)
    torch.testing.assert_close(sign_after, -sign_W)


@every_kind
def test_an_amplitude_depends_on_nothing_but_its_own_configuration(config):
    ansatz, occupied = made(config, LADDER), some(LADDER, walkers=40)
    together = amplitude(ansatz, occupied)
    alone = np.concatenate([amplitude(ansatz, each[None]) for each in occupied])
    np.testing.assert_allclose(alone, together, rtol=1e-10)
    np.testing.assert_allclose(amplitude(ansatz, occupied.flip(0)), together[::-1], rtol=1e-10)


@every_kind
def test_amplitudes_in_pieces_that_fit_the_cache_are_those_of_one_batch(config, monkeypatch):
    ansatz, occupied = made(config, LADDER), some(LADDER, walkers=50)
    together = amplitude(ansatz, occupied)
    monkeypatch.setattr("models.nqs.ansatz._CACHED", 1)
    with torch.no_grad():
        np.testing.assert_allclose(amplitude(ansatz, occupied), together, rtol=1e-10)


def test_occupied_rows_are_ascending():
    ansatz, occupied = made(ALL_KINDS[0], LADDER), some(LADDER, walkers=100)
    expected = np.array([np.flatnonzero(each) for each in occupied.numpy()])
    np.testing.assert_array_equal(ansatz.occupied_rows(occupied), expected)


@every_kind
def test_gradients_per_sample_are_those_taken_one_by_one(config):
    ansatz, occupied = made(config, LADDER), some(LADDER, walkers=5)
    parameters = {name: each.detach() for name, each in ansatz.named_parameters()}

    def log_abs(parameters: dict[str, Tensor], occupied_M: Tensor) -> Tensor:
        return functional_call(ansatz, parameters, (occupied_M[None],))[0][0]

    together = vmap(grad(log_abs), in_dims=(None, 0))(parameters, occupied)
    for walker, each in enumerate(occupied):
        ansatz.zero_grad()
        ansatz(each[None])[0].sum().backward()
        for name, parameter in ansatz.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(together[name][walker], parameter.grad, rtol=1e-8, atol=1e-10)


@every_kind
def test_gradients_agree_with_finite_differences(config):
    ansatz, occupied = made(config, LADDER), some(LADDER, walkers=3)
    direction = [torch.randn_like(each) for each in ansatz.parameters()]
    log_W = ansatz(occupied)[0]
    gradients = torch.autograd.grad(log_W.sum(), list(ansatz.parameters()))
    expected = sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True))
    ends = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            for parameter, along in zip(ansatz.parameters(), direction, strict=True):
                parameter += step * along
            ends.append(ansatz(occupied)[0].sum().item())
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_walker_where_psi_is_zero_leaves_the_gradient_finite():
    ansatz, occupied = made(AnsatzConfig(kind="mean_field"), LADDER), some(LADDER)
    with torch.no_grad():
        ansatz.get_parameter("tables.0.blocks.0")[0, occupied[0].nonzero()[0]] = 0.0
    log_W, _ = ansatz(occupied)
    assert log_W[0] == -torch.inf
    log_W[log_W > -torch.inf].sum().backward()
    for parameter in ansatz.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize("kind", ["transformer", "ace", "scale", "slater_jastrow"])
def test_a_float32_network_agrees_with_a_float64_one(kind):
    exact = made(AnsatzConfig(kind=kind), LADDER)
    rounded = make_ansatz(AnsatzConfig(kind=kind, dtype="float32"), LADDER)
    rounded.load_state_dict(exact.state_dict())
    occupied = some(LADDER, walkers=200)
    assert {parameter.dtype for parameter in rounded.parameters()} == {torch.float32}
    log_W, sign_W = rounded(occupied)
    assert log_W.dtype == torch.float64
    np.testing.assert_allclose(
        amplitude(rounded, occupied), amplitude(exact, occupied), atol=1e-4 * exact(occupied)[0].exp().max().item()
    )
    assert set(sign_W.unique().tolist()) == {-1.0, 1.0}


def test_a_hop_changes_scales_rows_only_close_to_it():
    system = SystemConfig(lattice="7x3", boundary="periodic,open", filling="6,6", U=8.0)
    ansatz = made(AnsatzConfig(kind="scale", width=5, head_scale=1.0), system)
    before = torch.zeros(1, 42, dtype=torch.bool)
    before[0, [0, 2, 3, 9, 13, 15, 21, 22, 27, 31, 33, 41]] = True
    after = before.clone()
    after[0, 9], after[0, 10] = False, True  # spin up, from (3, 0) to (3, 1)
    with torch.no_grad():
        moved = (ansatz.orbitals(before) - ansatz.orbitals(after))[0, 0].abs().amax(dim=-1) > 1e-12
    columns = ansatz.occupied_rows(before)[0] % 21 // 3
    close = (columns >= 2) & (columns <= 4)
    np.testing.assert_array_equal(moved, close)


def test_attention_maps_are_means_of_probabilities():
    config = ALL_KINDS[0]
    ansatz, occupied = made(config, LADDER), some(LADDER)
    assert isinstance(ansatz, TransformerBackflow)
    maps = ansatz.attention_maps(occupied)
    assert maps.shape == (2, 3, 8, 8)
    np.testing.assert_allclose(maps.sum(dim=-1), 1.0, rtol=1e-12)
    P = {name: parameter.detach().numpy() for name, parameter in ansatz.named_parameters()}
    expected = np.zeros((8, 8))
    for each in occupied.numpy().astype(int):
        x = [P["state_embedding"][each[i] + 2 * each[i + 8]] + P["position_embedding"][i] for i in range(8)]
        query, key = P["layers.0.attention.query.weight"], P["layers.0.attention.key.weight"]
        for i in range(8):
            score = np.exp([(query[4:8] @ x[i]) @ (key[4:8] @ x[j]) / 2 for j in range(8)])
            expected[i] += score / score.sum() / len(occupied)
    np.testing.assert_allclose(maps[0, 1], expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("lattice", "filling", "millions"),
    [("4x4", "7,7", 1.35), ("8x8", "28,28", 1.44), ("16x4", "28,28", 1.44), ("16x16", "112,112", 1.84)],
)
def test_networks_of_the_papers_size_have_the_papers_number_of_parameters(lattice, filling, millions):
    system = SystemConfig(lattice=lattice, boundary="periodic", filling=filling, U=8.0)
    ansatz = make_ansatz(AnsatzConfig(width=256, heads=4, layers=4, determinants=4, dtype="float32"), system)
    table = sum(parameter.numel() for parameter in ansatz.tables.parameters())  # which the paper has not
    assert round((ansatz.parameter_count() - table) / 1e6, 2) == millions


@pytest.mark.parametrize("kind", ["transformer", "ace", "scale", "mean_field"])
def test_a_seed_makes_the_same_ansatz_again(kind):
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(make_ansatz(AnsatzConfig(kind=kind), LADDER).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_start_at_a_mean_field_is_that_mean_field_up_to_small_corrections():
    network = make_ansatz(AnsatzConfig(start="hartree_fock", head_scale=0.0), LADDER)
    baseline = make_ansatz(AnsatzConfig(kind="mean_field", start="hartree_fock"), LADDER)
    np.testing.assert_allclose(amplitude(network, some(LADDER)), amplitude(baseline, some(LADDER)), rtol=1e-12)


def test_only_an_ansatz_of_one_spin_each_vanishes_between_the_spins():
    ansatz = made(AnsatzConfig(kind="mean_field", generalised=False), LADDER)
    with torch.no_grad():
        orbitals = ansatz.orbitals(some(LADDER))
    assert torch.count_nonzero(orbitals[..., :3, 3:]) == torch.count_nonzero(orbitals[..., 3:, :3]) == 0
    assert ansatz.parameter_count() == 8 * 3 + 8 * 2


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({"width": 30}, "width=32"),
        ({"kind": "scale", "kernel": 4}, "kernel=5"),
        ({"kind": "mean_field", "determinants": 2}, "determinants=1"),
        ({"kernel": 5}, "kernel=3"),
        ({"generalised": False}, "generalised=True"),
        ({"start": "free", "determinants": 2, "head_scale": 0.0}, "head_scale=0.02"),
        ({"start_U": 1.0}, "start=hartree_fock"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_ones_that_do(changes, fits):
    with pytest.raises(ConfigError, match=fits):
        AnsatzConfig().with_overrides(changes)


@every_kind
def test_a_config_survives_json(config):
    assert AnsatzConfig.model_validate(json.loads(config.model_dump_json())) == config


def test_real_orbitals_are_refused_where_hopping_is_complex():
    twisted = SystemConfig(lattice="4x2", boundary="periodic,open", filling="3,2", U=8.0, twist="0.5,0")
    with pytest.raises(ConfigError, match="complex=true"):
        make_ansatz(AnsatzConfig(), twisted)
