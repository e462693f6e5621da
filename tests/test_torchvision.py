"""Networks that torchvision has in another form than timm."""

import torch
from reference import torchvision
from zoo import apart, randomise

from opsin import create_model
from opsin.convert import rename
from opsin.families.inception_v3 import PUBLISHED
from opsin.families.vgg import TABLE_A_BN


def test_inception_v3_with_its_auxiliary_head():
    theirs = torchvision.models.inception_v3(init_weights=False, dropout=0.0).double()
    randomise(theirs)
    state = {k: v.clone() for k, v in theirs.state_dict().items()}
    ours = create_model("inception_v3", auxiliary=True).double()
    ours.load_state_dict(rename(state, PUBLISHED))
    assert sum(p.numel() for p in ours.parameters()) == 27_161_264
    x = torch.randn(1, 3, 299, 299).double()
    with torch.no_grad():
        assert apart(ours.eval()(x), theirs.eval()(x)) < 1e-9
        middle, _ = ours.backbone(x, (-2, -1)).maps
        assert apart(ours.head.auxiliary(middle), theirs.AuxLogits(middle)) < 1e-9
        logits, auxiliary = ours.train()(torch.randn(2, 3, 107, 107).double())
    assert logits.shape == auxiliary.shape == (2, 1000)


def test_vgg_with_its_fully_connected_layers():
    theirs = torchvision.models.vgg11_bn(num_classes=10).eval()
    theirs.classifier[0] = torch.nn.Linear(512 * 49, 64)
    theirs.classifier[3], theirs.classifier[6] = torch.nn.Linear(64, 64), torch.nn.Linear(64, 10)
    theirs = theirs.double()
    randomise(theirs)
    ours = create_model("vgg11_bn", num_classes=10, hidden=64).double().eval()
    state, own = rename(theirs.state_dict(), TABLE_A_BN), ours.state_dict()
    ours.load_state_dict({k: v.reshape(own[k].shape) for k, v in state.items()})
    x = torch.randn(1, 3, 224, 224).double()
    with torch.no_grad():
        assert apart(ours(x), theirs(x)) < 1e-9
