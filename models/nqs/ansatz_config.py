"""Which form the wave function has, how large it is and where it starts. This module imports no torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from models.common.config import Config

Kind = Literal["transformer", "ace", "scale", "slater_jastrow", "mean_field"]
Start = Literal["random", "free", "hartree_fock"]

_NETWORKS = ("transformer", "ace", "scale")
# The fields that only some kinds read; with any other kind they keep their default.
_READ_BY: dict[str, tuple[str, ...]] = {
    "determinants": _NETWORKS,
    "width": _NETWORKS,
    "heads": ("transformer",),
    "layers": ("transformer", "ace"),
    "bias": _NETWORKS,
    "kernel": ("ace", "scale"),
    "mlp_width": ("ace", "scale"),
    "mlp_layers": ("ace", "scale"),
    "head_scale": _NETWORKS,
    "generalised": ("slater_jastrow", "mean_field"),
}


class AnsatzConfig(Config):
    """One of five wave functions, all of them sums of determinants of orbitals that a table holds.

    transformer: a transformer corrects the orbitals for where the other electrons are (Gu et al. 2025)
    ace:         residual convolutions with LayerNorm do (Liu et al. 2026)
    scale:       one convolution does, so that a hop changes orbitals close to it only (ibid.)
    slater_jastrow, mean_field: nothing does; with and without a factor for pairs of electrons
    """

    kind: Kind = "transformer"
    determinants: int = Field(default=1, ge=1, le=64, description="K, summed with equal weight")
    complex: bool = Field(default=False, description="orbitals have an imaginary part, by a second head and table")
    dtype: Literal["float64", "float32"] = Field(
        default="float64", description="of the parameters and the network; determinants are float64 in any case"
    )
    width: int = Field(default=24, ge=1, le=4096, description="numbers per site: d, or the convolutions' channels")
    heads: int = Field(default=4, ge=1, le=64, description="of attention; they divide the width")
    layers: int = Field(default=2, ge=1, le=64, description="of attention, or of convolution")
    bias: bool = Field(default=True, description="in the layers between attention and head, and in convolutions")
    kernel: int = Field(default=3, ge=1, le=31, description="sites along each side of the convolution's square; odd")
    mlp_width: int = Field(default=48, ge=1, le=8192, description="numbers per site after the convolutions")
    mlp_layers: int = Field(default=2, ge=1, le=16, description="site by site, after the convolutions")
    head_scale: float = Field(
        default=0.02, ge=0.0, le=10.0, description="size of the corrections at the start; 0 begins at the table alone"
    )
    generalised: bool = Field(default=True, description="an orbital may mix both spins")
    start: Start = Field(default="random", description="what the table holds at the start")
    start_U: float = Field(
        default=2.0, ge=-100.0, le=100.0, description="interaction of start=hartree_fock; weak ones sample better"
    )
    table_scale: float = Field(
        default=0.3, gt=0.0, le=10.0, description="standard deviation of the entries of start=random"
    )

    @model_validator(mode="after")
    def _is_read(self) -> Self:
        for name, kinds in _READ_BY.items():
            value, default = getattr(self, name), type(self).model_fields[name].default
            if self.kind not in kinds and value != default:
                raise ValueError(f"{name}={value} has no effect on kind={self.kind}; fits: {name}={default}")
        for name, start in (("start_U", "hartree_fock"), ("table_scale", "random")):
            if self.start != start and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect on start={self.start}; fits: start={start}, or no {name}")
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.kind == "transformer" and self.width % self.heads:
            fits = self.width - self.width % self.heads + self.heads
            raise ValueError(f"width={self.width} does not divide into {self.heads} heads; fits: width={fits}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel={self.kernel} has no site in its middle; fits: kernel={self.kernel + 1}")
        return self

    @model_validator(mode="after")
    def _start_fits(self) -> Self:
        if self.determinants > 1 and self.start != "random" and self.head_scale == 0:
            raise ValueError(
                f"{self.determinants} determinants that start={self.start} makes equal, and head_scale=0 keeps equal\n"
                "fits: head_scale=0.02, start=random, or determinants=1"
            )
        return self
