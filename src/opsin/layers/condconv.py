"""Kernels that depend on the image: a mix of experts' kernels. Yang et al., 2019, arXiv:1904.04971"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..width import Groups, per_group
from .conv import SamePad2d


class Routing(nn.Linear):
    """sigmoid(linear(mean over pixels)): what each expert counts for each image, (B, C, H, W) to (B, experts)"""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mean((2, 3))).sigmoid()


class CondConv2d(nn.Module):
    """conv(x_b, sum of routing[b, e] * weight[e]), a kernel for each image b of the batch; no bias

    Kernels have odd sides and keep the size of a map at stride 1; `tensorflow` pads strided ones below and right.
    The experts' kernels lie one behind the other in the weight's first dimension.
    """

    axes = {"weight": ("kernels", "share")}

    def __init__(
        self, cin: int, cout: int, kernel: int, experts: int, stride: int = 1, groups: int = 1, tensorflow: bool = False
    ):
        super().__init__()
        self.experts, self.kernels, self.share = experts, Groups(experts, cout), per_group(cin, groups)
        self.groups, self.stride = groups, stride
        self.pad = SamePad2d(kernel, stride) if tensorflow else nn.ZeroPad2d(kernel // 2)
        self.weight = nn.Parameter(torch.empty(experts * cout, cin // groups, kernel, kernel))
        for expert in self.weight.detach().chunk(experts):
            nn.init.kaiming_normal_(expert, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, routing: Tensor) -> Tensor:
        b, x = len(x), self.pad(x)
        experts = self.weight.unflatten(0, (int(self.experts), -1))
        kernels = (routing @ experts.flatten(1)).unflatten(1, experts.shape[1:]).flatten(0, 1)
        x = x.reshape(1, -1, *x.shape[2:])  # images are groups of one convolution
        y = F.conv2d(x, kernels, stride=self.stride, groups=b * int(self.groups))
        return y.view(b, -1, *y.shape[2:])
