import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call

from opsin.width import (
    Concat,
    Groups,
    Width,
    WidthError,
    atoms,
    axes,
    each,
    fixed,
    narrow,
    per_group,
    same,
    slices,
    widths,
)


class Pair(nn.Module):
    """fc2(relu(fc1(x))) with a free width between"""

    def __init__(self, cin: int = 3, hidden: int = 6, cout: int = 2):
        super().__init__()
        hidden = Width(hidden, "hidden")
        self.fc1, self.fc2 = nn.Linear(cin, hidden), nn.Linear(hidden, cout)

    def forward(self, x):
        return self.fc2(self.fc1(x).relu())


# ------------------------------------------------- numbers -------------------------------------------------


def test_a_width_is_its_number_and_arithmetic_ties_nothing():
    dim = Width(96, "dim")
    assert dim == 96
    assert hash(dim) == hash(96)
    assert type(dim * 4) is type(dim + 1) is type(dim // 2) is type(-dim) is int
    assert nn.Linear(dim, 3).in_features is dim


def test_composed_widths_are_sums_and_products():
    a, b = Width(3, "a"), Width(4, "b")
    assert Concat(a, b, 5) == 12
    assert Groups(b, a) == 12
    assert Concat(Groups(b, a), a) == 15
    assert atoms(Concat(Groups(b, a), a, 7)) == (b, a, a)
    assert atoms(8) == ()


def test_positions_of_what_stays():
    a, b = Width(3, "a"), Width(2, "b")
    keep = {id(a): torch.tensor([0, 2]), id(b): torch.tensor([1])}
    assert Concat(a, 2, b).index(keep).tolist() == [0, 2, 3, 4, 6]
    assert Groups(a, 2).index(keep).tolist() == [0, 1, 4, 5]
    assert Groups(2, a).index(keep).tolist() == [0, 2, 3, 5]
    assert Groups(a, b).index(keep).tolist() == [1, 5]


def test_each_numbers_its_widths():
    dims = each(8, 16)
    assert [d.name for d in dims] == ["dim1", "dim2"]
    assert dims == [8, 16]


def test_same_is_identity_for_widths_and_equality_for_numbers():
    a, b = Width(4, "a"), Width(4, "a")
    assert same(a, a)
    assert not same(a, b)
    assert same(4, 4)
    assert same(a, 4)  # a number that is told cannot change, so the residual holds the width to it
    assert same(Concat(a, b), Concat(a, b))
    assert not same(Concat(a, b), Concat(b, a))
    assert not same(Concat(a), Groups(a, 1))


def test_copies_share_widths_and_pickles_keep_ties():
    net = nn.Sequential(Pair(), Pair())
    twin = copy.deepcopy(net)
    assert twin[0].fc1.out_features is net[0].fc1.out_features
    back = pickle.loads(pickle.dumps(net))
    assert back[0].fc1.out_features is back[0].fc2.in_features
    assert back[0].fc1.out_features is not back[1].fc1.out_features
    assert widths(back) == widths(net)
    tied = Concat(Width(2, "a"), Groups(Width(3, "heads"), 4))
    again = pickle.loads(pickle.dumps(tied))
    assert (again, type(again.parts[1]), [w.name for w in atoms(again)]) == (14, Groups, ["a", "heads"])


# ------------------------------------------------- names -------------------------------------------------


def test_a_width_is_named_by_the_smallest_module_of_all_its_users():
    dim = Width(4, "dim")
    net = nn.ModuleDict({"a": Pair(cin=dim), "b": Pair(cin=3, cout=dim), "c": Pair()})
    assert set(widths(net)) == {"dim", "a.hidden", "b.hidden", "c.hidden"}
    assert widths(net)["dim"] is dim


def test_equal_names_are_numbered():
    a, b = nn.Linear(Width(2, "n"), Width(3, "n")), nn.Linear(Width(4, "n"), Width(5, "n_2"))
    net = nn.Sequential(nn.Sequential(a, b, nn.Linear(6, Width(7, "n"))), nn.Linear(Width(8, "n"), 5))
    assert {k: int(v) for k, v in widths(net).items()} == {
        "0.0.n": 3,
        "0.0.n_2": 2,
        "0.1.n_2": 5,
        "0.1.n": 4,
        "0.2.n": 7,
        "1.n": 8,
    }
    a, b, c = Width(2, "n_2"), Width(3, "n"), Width(4, "n")
    crossed = nn.Sequential(nn.Linear(a, b), nn.Linear(b, c), nn.Linear(c, a))
    assert {k: int(v) for k, v in widths(crossed).items()} == {"n": 3, "n_2": 2, "n_3": 4}


def test_fixed_names_the_free_dimensions():
    assert fixed(Pair()) == {"fc1.weight": (1,), "fc2.weight": (0,), "fc2.bias": (0,)}


# ------------------------------------------------- thinner -------------------------------------------------


def test_narrow_by_indices_and_by_count():
    net, x = Pair(), torch.randn(5, 3)
    thin = narrow(net, {"hidden": [4, 1]})
    assert torch.equal(thin.fc1.weight, net.fc1.weight[[4, 1]])
    assert torch.equal(thin.fc2.weight, net.fc2.weight[:, [4, 1]])
    assert thin.fc1.out_features == thin.fc2.in_features == 2
    assert thin.fc1.out_features is thin.fc2.in_features
    assert torch.allclose(thin(x), net.fc1(x).relu()[:, [4, 1]] @ net.fc2.weight[:, [4, 1]].T + net.fc2.bias)
    assert torch.equal(narrow(net, {"hidden": 2}).fc1.bias, net.fc1.bias[:2])
    assert net.fc1.out_features == 6


def test_narrowing_twice_is_narrowing_once():
    net = Pair()
    once, twice = narrow(net, {"hidden": [1, 5]}), narrow(narrow(net, {"hidden": [1, 3, 5]}), {"hidden": [0, 2]})
    assert all(torch.equal(a, b) for a, b in zip(once.state_dict().values(), twice.state_dict().values()))


def test_slices_are_views_and_train_their_corner():
    net, x = Pair(), torch.randn(5, 3)
    keep = {"hidden": [1, 2]}
    state = slices(net, keep)
    assert state["fc1.weight"]._base is net.fc1.weight  # neighbours: nothing is copied
    functional_call(narrow(net, keep), state, (x,)).square().sum().backward()
    touched = net.fc2.weight.grad.abs().sum(0) > 0
    assert not touched[[0, 3, 4, 5]].any()
    assert net.fc1.weight.grad[[0, 3, 4, 5]].abs().sum() == 0
    thin = narrow(net, keep)
    thin(x).square().sum().backward()
    assert torch.allclose(net.fc1.weight.grad[1:3], thin.fc1.weight.grad)


def test_buffers_and_depthwise_convolutions_follow():
    dim = Width(6, "dim")
    depthwise, norm = nn.Conv2d(dim, dim, 3, groups=dim), nn.BatchNorm2d(dim)
    net = nn.Sequential(nn.Conv2d(3, dim, 1), depthwise, norm, nn.Conv2d(dim, 2, 1))
    net[2].running_mean.copy_(torch.arange(6.0))
    thin = narrow(net, {"dim": [5, 0]})
    assert thin[1].groups == thin[1].weight.shape[0] == 2
    assert thin[2].running_mean.tolist() == [5, 0]
    assert thin(torch.randn(2, 3, 4, 4)).shape == (2, 2, 2, 2)


def test_groups_of_a_convolution_live_or_die_together():
    groups = Width(4, "groups")
    both = Groups(groups, 3)
    net = nn.Sequential(nn.Conv2d(3, both, 1), nn.Conv2d(both, both, 3, groups=groups), nn.Conv2d(both, 2, 1))
    thin = narrow(net, {"groups": [0, 3]})
    assert (thin[1].groups, thin[1].in_channels) == (2, 6)
    assert torch.equal(thin[1].weight, net[1].weight[[0, 1, 2, 9, 10, 11]])
    assert thin(torch.randn(1, 3, 4, 4)).shape == (1, 2, 2, 2)


def test_transposed_convolutions():
    a, b = Width(4, "a"), Width(6, "b")
    net = nn.Sequential(nn.Conv2d(1, a, 1), nn.ConvTranspose2d(a, b, 2, 2), nn.Conv2d(b, 1, 1))
    thin = narrow(net, {"a": 2, "b": [5, 1]})
    assert torch.equal(thin[1].weight, net[1].weight[:2][:, [5, 1]])
    assert thin(torch.randn(1, 1, 2, 2)).shape == (1, 1, 4, 4)


def test_raw_parameters_say_their_axes():
    class Table(nn.Module):
        axes = {"table": (None, "heads")}

        def __init__(self):
            super().__init__()
            self.heads = Width(4, "heads")
            self.table = nn.Parameter(torch.randn(9, 4))

    net = Table()
    assert axes(net) == {"table": (None, net.heads)}
    thin = narrow(net, {"heads": [3, 2]})
    assert thin.heads == 2
    assert torch.equal(thin.table, net.table[:, [3, 2]])
    assert isinstance(thin.table, nn.Parameter)


# ------------------------------------------------- errors -------------------------------------------------


def test_unknown_widths_name_near_ones():
    with pytest.raises(WidthError, match="no width called 'hiden'; did you mean hidden"):
        narrow(Pair(), {"hiden": 2})
    with pytest.raises(WidthError, match=r"no width called 'xyz'; opsin.width.widths\(model\) lists them"):
        slices(Pair(), {"xyz": 2})


@pytest.mark.parametrize("chosen", [[6], [-1], [1, 1], [], 0, 7, -2, True, "3", 2.5, [0.5], [[1, 2]], [True, False]])
def test_channels_outside_the_width(chosen):
    with pytest.raises(WidthError, match="hidden has 6 channels: keep between 1 and 6 different ones, not"):
        narrow(Pair(), {"hidden": chosen})


def test_a_grouped_convolution_must_be_written_so():
    with pytest.raises(WidthError, match=r"12 channels in 4 groups: write Groups\(groups, size\)"):
        per_group(Width(12, "dim"), Width(4, "groups"))
    assert per_group(12, 4) is None
