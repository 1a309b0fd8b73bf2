"""The networks in PyTorch as one would write them there, on the weights of ours.

Functions of tensors `[B, C, *n]`; convolutions, norms and pools are PyTorch's own.
"""

import numpy as np
import torch
import torch.nn.functional as F

CONV = {1: F.conv1d, 2: F.conv2d}
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d}
AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d}


class Weights:
    """Layers that read their weights by the names that linen gives them.

    With `channels_last` a pattern is an image of one row, `[B, C, 1, n]`: PyTorch has that layout
    for images alone.
    """

    def __init__(
        self,
        variables: dict,
        ndim: int,
        trained: bool,
        device: str = "cpu",
        channels_last: bool = False,
    ) -> None:
        self.row = channels_last and ndim == 1
        self.ndim, self.train = 2 if channels_last else ndim, trained
        self.tensors: dict[str, torch.Tensor] = {}
        for kind, tree in variables.items():
            for path, leaf in flat(tree):
                tensor = torch.tensor(np.asarray(leaf), device=device)
                if path.endswith("kernel"):
                    order = (-1, -2, *range(tensor.ndim - 2))
                    tensor = tensor.permute(order).contiguous()
                    if self.row and tensor.ndim == 3:
                        tensor = tensor[:, :, None]
                tensor.requires_grad_(trained and kind == "params")
                self.tensors[path] = tensor

    def trained(self) -> list[torch.Tensor]:
        """The leaves that an optimizer changes."""
        return [tensor for tensor in self.tensors.values() if tensor.requires_grad]

    def conv(self, x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        """Convolution with zeros on both sides."""
        kernel = self.tensors[f"{name}/kernel"]
        bias = self.tensors.get(f"{name}/bias")
        stride, padding = self._along(stride, 1), self._along(kernel.shape[-1] // 2, 0)
        return CONV[self.ndim](x, kernel, bias, stride=stride, padding=padding)

    def max_pool(self, x: torch.Tensor, window: int, stride: int, padding: int = 0) -> torch.Tensor:
        """Maximum over windows."""
        options = self._along(window, 1), self._along(stride, 1), self._along(padding, 0)
        return MAX_POOL[self.ndim](x, *options)

    def halve(self, x: torch.Tensor) -> torch.Tensor:
        """Mean of pairs of points."""
        return AVG_POOL[self.ndim](x, self._along(2, 1))

    def double(self, x: torch.Tensor) -> torch.Tensor:
        """Every point twice."""
        return F.interpolate(x, scale_factor=self._along(2.0, 1.0), mode="nearest")

    def _along(self, value, other):
        """Per axis: `value`, and `other` along the one row of a pattern."""
        return (other, value) if self.row else (value,) * self.ndim

    def norm_relu(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """ReLU of batch norm; of the batch in training."""
        scale, bias, mean, var = (
            self.tensors[f"{name}/{leaf}"] for leaf in ("scale", "bias", "mean", "var")
        )
        y = F.batch_norm(x, mean, var, scale, bias, training=self.train, momentum=0.1, eps=1e-5)
        return F.relu(y)

    def dense(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """Dense layer."""
        return F.linear(x, self.tensors[f"{name}/kernel"], self.tensors[f"{name}/bias"])


def flat(tree: dict, path: str = "") -> list[tuple[str, np.ndarray]]:
    """Leaves of nested dicts with their paths, such as 'block0_layer0/conv1/kernel'."""
    found = []
    for name, value in tree.items():
        below = f"{path}/{name}".lstrip("/")
        found += flat(value, below) if isinstance(value, dict) else [(below, value)]
    return found


def densenet(net, layer: Weights, x: torch.Tensor) -> torch.Tensor:
    """Logits of DenseNet, as torchvision writes it."""
    y = layer.norm_relu(layer.conv(x, "stem", net.stem_stride), "stem_norm")
    if net.stem_pool:
        y = layer.max_pool(y, 3, 2, 1)
    for i, depth in enumerate(net.blocks):
        collected = [y]
        for j in range(depth):
            name = f"block{i}_layer{j}"
            z = layer.conv(
                layer.norm_relu(torch.cat(collected, 1), f"{name}/norm1"), f"{name}/conv1"
            )
            collected.append(layer.conv(layer.norm_relu(z, f"{name}/norm2"), f"{name}/conv2"))
        y = torch.cat(collected, 1)
        last = i + 1 == len(net.blocks)
        y = layer.norm_relu(y, "norm" if last else f"transition{i}_norm")
        if not last:
            y = layer.halve(layer.conv(y, f"transition{i}_conv"))
    return layer.dense(y.flatten(2).mean(2), "head")


def vgg(net, layer: Weights, x: torch.Tensor) -> torch.Tensor:
    """Logits of VGG."""
    y, padding = x, (net.pool_window - net.pool_stride) // 2
    for i, widths in enumerate(net.stages):
        for j in range(len(widths)):
            y = layer.conv(y, f"conv{i}_{j}", net.stem_stride if i == j == 0 else 1)
            y = layer.norm_relu(y, f"norm{i}_{j}") if net.batch_norm else F.relu(y)
        if net.last_pool or i + 1 < len(net.stages):
            y = layer.max_pool(y, net.pool_window, net.pool_stride, padding)
    y = y.movedim(1, -1).flatten(1) if net.hidden else y.flatten(2).mean(2)
    for i in range(len(net.hidden)):
        y = F.dropout(F.relu(layer.dense(y, f"hidden{i}")), net.dropout, layer.train)
    return layer.dense(y, "head")


def unet(net, layer: Weights, x: torch.Tensor) -> torch.Tensor:
    """Refined pattern of the U-Nets for patterns."""
    skips, y = [], x
    for level in range(len(net.features)):
        if level > 0:
            y = layer.max_pool(y, 2, 2)
        y = F.relu(layer.conv(y, f"down{level}_0"))
        skips.append(y)
    for level in range(len(net.features) - 2, -1, -1):
        y = F.relu(layer.conv(layer.double(y), f"up{level}"))
        if level > 0 or net.outer_skip:
            y = torch.cat([y, skips[level]], 1)
    return F.relu(x + layer.conv(y, "out"))


FORWARD = {"DenseNet": densenet, "VGG": vgg, "UNet": unet}


def forward(net, layer: Weights, x: torch.Tensor) -> torch.Tensor:
    """What `net.apply` gives: logits or refined patterns."""
    return FORWARD[type(net).__name__](net, layer, x)
