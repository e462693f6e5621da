"""Maps as dense prediction takes them: each behind a norm of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from .network import FeatureMaps, Network


class NormedMaps(FeatureMaps):
    """[norm_i(map_i)]: the maps of the chosen taps, each behind a norm that the backbone itself does not see"""

    def __init__(
        self, network: Network, norm: Callable[[int], nn.Module], out_indices: Sequence[int] | int | None = None
    ):
        super().__init__(network, out_indices)
        self.norms = nn.ModuleList(norm(self.backbone.widths[i]) for i in self.taps)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [norm(m) for norm, m in zip(self.norms, super().forward(x))]
