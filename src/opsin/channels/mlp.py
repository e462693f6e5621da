"""Two linear layers with a wider one between."""

from collections.abc import Callable

from torch import Tensor, nn

from ..width import Width


class Mlp(nn.Module):
    """fc2(act(fc1(x))), `ratio` times as wide inside; channels last"""

    def __init__(self, dim: int, ratio: float = 4.0, act: Callable[[], nn.Module] = nn.GELU, bias: bool = True):
        super().__init__()
        hidden = Width(int(dim * ratio), "hidden")
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden, bias), act(), nn.Linear(hidden, dim, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))
