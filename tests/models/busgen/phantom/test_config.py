"""What a phantom's config refuses."""

import pytest

from models.busgen.phantom_config import PhantomConfig
from models.common.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"devices": ("linear-11",)}, "did you mean"),
        ({"devices": ("linear-7", "linear-7")}, "twice"),
        ({"devices": ("linear-7",), "device_class_correlation": 0.5}, "no effect on one device"),
        ({"benign": 0, "malignant": 0}, "no patients"),
        ({"side": 16}, "side"),
    ],
)
def test_what_cannot_work_is_refused_by_name(changes: dict[str, object], says: str):
    with pytest.raises(ConfigError, match=says):
        PhantomConfig().but(**changes)
