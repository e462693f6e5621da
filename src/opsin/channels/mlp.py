"""Two linear layers with a wider one between."""

from collections.abc import Callable

from torch import Tensor, nn

from ..layers.act import GELU
from ..layers.norm import LayerNorm
from ..width import Width


class Mlp(nn.Module):
    """fc2(act(fc1(x))), `ratio` times as wide inside, `cout` channels out (as many as in by default); channels last"""

    def __init__(
        self,
        dim: int,
        ratio: float = 4.0,
        act: Callable[[], nn.Module] = GELU,
        cout: int | None = None,
        bias: bool = True,
    ):
        super().__init__()
        hidden = Width(int(dim * ratio), "hidden")
        self.fc1, self.act = nn.Linear(dim, hidden, bias), act()
        self.fc2 = nn.Linear(hidden, dim if cout is None else cout, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class NormedMlp(Mlp):
    """fc2(norm(act(fc1(x)))). Sub-LayerNorm, Wang et al., 2022, arXiv:2210.06423"""

    def __init__(self, dim: int, ratio: float = 4.0, eps: float = 1e-5):
        super().__init__(dim, ratio)
        self.norm = LayerNorm(self.fc1.out_features, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.norm(self.act(self.fc1(x))))
