"""A number that no state's energy lies below."""

from models.nqs.system import SystemConfig

_QUICK_STATES = 20_000  # diagonalised in well under a second


def lower_bound(system: SystemConfig) -> float:
    """The ground-state energy where it is quickly found or published as exact, otherwise what bounds it from below.

    The bound is the sum of the least kinetic and field energy, which is that of free electrons, and the least
    interaction energy: U for each pair that the electrons have to form, or can form where U < 0.
    """
    from models.nqs.exact import free_fermion_energy, ground_state
    from models.nqs.published import exact_energy
    from models.nqs.sector import Sector

    if Sector(system.sites, *system.particles).dimension <= _QUICK_STATES:
        return ground_state(system).energy
    if (known := exact_energy(system)) is not None:
        return known
    n_up, n_dn = system.particles
    pairs = max(0, n_up + n_dn - system.sites) if system.U > 0 else min(n_up, n_dn)
    return free_fermion_energy(system.but(U=0.0)) + system.U * pairs
