"""The family of small convolutional networks for the image benchmarks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qrkd_lab.checks import whole

__all__ = ["CNN"]

KERNEL = 5


class CNN(nn.Module):
    r"""A two-stage convolutional classifier with a tap at its penultimate layer.

    Conv(c1, 5x5) - ReLU - pool - Conv(c2, 5x5) - ReLU - pool - FC(h) - ReLU - FC(classes). On MNIST
    the widths ``(8, 12, 20)`` give 6,690 parameters and ``(5, 2, 31)`` give 1,725, as the paper's
    teacher and student have (Liu et al., PMLR 322:212-234, 2026). For :math:`C` channels, :math:`k`
    classes and :math:`s_H \times s_W` pixels left after both pools it is
    :math:`c_1 (25 C + 1) + c_2 (25 c_1 + 1) + h (c_2 s_H s_W + 1) + k (h + 1)`.

    Args:
        image_shape: ``(C, H, W)`` of the images.
        classes: Number of classes.
        widths: ``(c1, c2, h)``: channels of both convolutions, and hidden units.
        padding: Zeros added on each side before each convolution. 0 as in the paper's sizes;
            2 keeps the size, which 8 x 8 digits need.

    Raises:
        ValueError: A size that is not positive, or an image so small that nothing is left after
            both pools; the message names the padding that works.

    Example:
        >>> import torch
        >>> teacher = CNN((1, 28, 28), 10, widths=(8, 12, 20))
        >>> teacher.parameter_count
        6690
        >>> teacher.features(torch.zeros(3, 1, 28, 28)).shape
        torch.Size([3, 20])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        widths: tuple[int, int, int] = (8, 12, 20),
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.image_shape = _positive("image_shape (C, H, W)", image_shape)
        self.widths = _positive("widths (c1, c2, h)", widths)
        self.classes = whole("classes", classes, 1)
        self.padding = whole("padding", padding, 0)
        self.map_shape = _map_shape(self.image_shape, self.padding)
        first, second, hidden = self.widths
        height, width = self.map_shape
        self.convolutions = nn.Sequential(
            nn.Conv2d(self.image_shape[0], first, KERNEL, padding=self.padding),
            nn.MaxPool2d(2),
            nn.ReLU(),  # after the pool: the same numbers, both being monotone, at a quarter's cost
            nn.Conv2d(first, second, KERNEL, padding=self.padding),
            nn.MaxPool2d(2),
            nn.ReLU(),
        )
        self.hidden = nn.Sequential(nn.Linear(second * height * width, hidden), nn.ReLU())
        self.output = nn.Linear(hidden, self.classes)
        # Channels last in memory: pools 5 times and narrow convolutions 1.5 times faster on a CPU.
        self.to(memory_format=torch.channels_last)

    @property
    def feature_dim(self) -> int:
        """Number of features, ``h``."""
        return self.widths[2]

    @property
    def parameter_count(self) -> int:
        """Number of trainable numbers."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer after its ReLU: images ``(n, C, H, W)`` to features ``(n, h)``.

        Raises:
            TypeError: Images that are not floating point.
            ValueError: Images of another shape than the network was built for.
        """
        if not images.is_floating_point():
            raise TypeError(
                f"CNN expects normalised floating-point images, got {images.dtype}; "
                "VisionData.normalise turns uint8 pixels into them."
            )
        if images.shape[1:] != self.image_shape:
            raise ValueError(
                f"CNN expects images (n, {', '.join(map(str, self.image_shape))}), "
                f"got {tuple(images.shape)}."
            )
        images = images.contiguous(memory_format=torch.channels_last)
        maps = self.convolutions(images)  # (n, c2, s_H, s_W)
        return self.hidden(maps.flatten(1))  # (n, h)

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Both from one pass: images ``(n, C, H, W)`` to logits ``(n, c)``, features ``(n, h)``."""
        features = self.features(images)
        return self.output(features), features

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(n, C, H, W)`` to logits ``(n, c)``."""
        return self.logits_and_features(images)[0]

    def extra_repr(self) -> str:
        maps = (self.widths[1], *self.map_shape)
        shapes = (self.image_shape, maps, (self.feature_dim,), (self.classes,))
        sizes = " -> ".join(" x ".join(map(str, shape)) for shape in shapes)
        return f"{self.parameter_count:,} parameters, {sizes}, padding={self.padding}"


def _positive(name: str, values: tuple[int, int, int]) -> tuple[int, int, int]:
    if len(values := tuple(values)) != 3:
        raise ValueError(f"{name} must be 3 positive whole numbers, got {values}.")
    return tuple(whole(name, value, 1) for value in values)


def _map_shape(image_shape: tuple[int, ...], padding: int) -> tuple[int, int]:
    """Pixels ``(s_H, s_W)`` left after both stages; an error names the least padding that works."""

    def left(size: int, pad: int) -> int:
        for _ in range(2):
            size = (size + 2 * pad - KERNEL + 1) // 2
        return size

    height, width = image_shape[1:]
    if min(left(height, padding), left(width, padding)) < 1:
        works = next(p for p in range(KERNEL) if left(min(height, width), p) >= 1)
        raise ValueError(
            f"Images of {height} x {width} pixels are too small for two 5x5 convolutions and pools "
            f"with padding={padding}: nothing is left. Use padding={works} or more."
        )
    return left(height, padding), left(width, padding)
