import pytest
import torch
from safetensors.torch import save_file

from models.common.errors import CheckpointError
from models.common.weights import load_stage_config, load_weights


def test_what_was_saved_is_loaded(tmp_path):
    weights = {"a.weight": torch.randn(2, 3), "b": torch.arange(4.0)}
    save_file(weights, tmp_path / "weights.safetensors")
    loaded = load_weights(tmp_path)
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_a_folder_without_weights_says_what_it_holds(tmp_path):
    (tmp_path / "labels_06.npy").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"labels_06\.npy"):
        load_weights(tmp_path)


@pytest.mark.parametrize("files", [{"config.json": "stage"}, {"config.json": "workload", "stage.json": "stage"}])
def test_a_stages_config_is_read_from_its_folder_and_from_a_versions(tmp_path, files):
    for name, about in files.items():
        (tmp_path / name).write_text(f'{{"of": "{about}"}}')
    assert load_stage_config(tmp_path) == {"of": "stage"}


def test_a_folder_without_a_config_is_no_stage(tmp_path):
    with pytest.raises(CheckpointError, match=r"neither config\.json nor stage\.json"):
        load_stage_config(tmp_path)
