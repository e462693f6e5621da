import json

import pytest
import torch

import opsin
from opsin.errors import OpsinError


def test_a_network_by_name_with_its_config():
    net = opsin.create_model("resnet18", num_classes=7, in_chans=1)
    assert net(torch.randn(2, 1, 64, 64)).shape == (2, 7)
    assert net.config == {"architecture": "resnet18", "arguments": {"num_classes": 7, "in_chans": 1}, "widths": {}}
    assert json.loads(json.dumps(net.config)) == net.config


def test_features_only_keeps_the_chosen_maps():
    x = torch.randn(1, 3, 64, 64)
    for chosen, strides in ((None, [2, 4, 8, 16, 32]), (2, [16, 32]), ([1, -1], [4, 32])):
        net = opsin.create_model("mobilenetv2_035", features_only=True, out_indices=chosen)
        assert [64 // m.shape[-1] for m in net(x)] == net.feature_info.reduction() == strides
        assert [m.shape[1] for m in net(x)] == net.feature_info.channels()
        assert not any(k.startswith("head") for k in net.state_dict())


@pytest.mark.parametrize("chosen", [[5], [-6], 6])
def test_a_map_that_is_not_there(chosen):
    with pytest.raises(IndexError, match=r"feature index -?\d: this network has 5, at strides \[2, 4, 8, 16, 32\]"):
        opsin.create_model("mobilenetv2_035", features_only=True, out_indices=chosen)


def test_pretrained_never_falls_back_to_random_weights():
    for name, given in (("densenet121", {"pretrained": True}), ("densenet121.no_such_tag", {})):
        with pytest.raises(OpsinError, match=name.partition(".")[0]):
            opsin.create_model(name, **given)
    with pytest.raises(OpsinError, match=r"no_such_file\.pth"):
        opsin.create_model("resnet18", pretrained="no_such_file.pth")


def test_equal_seeds_draw_equal_networks():
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        made.append(opsin.create_model("mobilenetv2_035").state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(m.values() for m in made)))


def test_a_new_classifier_is_in_the_config():
    net = opsin.create_model("mobilenetv2_035")
    net.config["labels"] = ["a"]
    net.reset_classifier(2)
    assert net.config["arguments"]["num_classes"] == net.get_classifier().out_features == 2
    assert "labels" not in net.config


def test_public_names_are_all_there():
    assert all(getattr(opsin, name) for name in opsin.__all__)
    with pytest.raises(AttributeError, match="module 'opsin' has no attribute 'fitt'"):
        opsin.fitt  # noqa: B018
