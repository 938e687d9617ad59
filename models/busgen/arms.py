"""What classifiers of a comparison learn from. All have the same network, augmentation and number of steps."""

from typing import Any, Literal

ArmName = Literal["real", "generated", "both", "transfer", "transfer_both", "many_real"]

# What each arm changes in the classifier's settings.
ARMS: dict[ArmName, dict[str, Any]] = {
    "real": {"train_on": "real"},
    "generated": {"train_on": "generated"},
    "both": {"train_on": "both"},
    "transfer": {"train_on": "real"},
    "transfer_both": {"train_on": "both"},
    "many_real": {"train_on": "real", "shots": None, "negative_shots": None},
}
FROM_PROBES: tuple[ArmName, ...] = ("transfer", "transfer_both")  # they begin with the probes' weights

LABELS: dict[str, str] = {
    "real": "few real",
    "generated": "generated",
    "both": "few real + generated",
    "transfer": "few real, pretrained classifier",
    "transfer_both": "few real + generated, pretrained classifier",
    "many_real": "all real of the split",
}
