"""A tap on any torch model: its logits, and the features of one of its layers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from qrkd_lab.objective import Outputs

__all__ = ["Tapped"]


class Tapped(nn.Module):
    """A model of yours that also says what one of its layers gave.

    The model stays as it is: its parameters are shared, not copied, and ``tapped.model`` is the
    model itself. What is tapped is the layer's output (not its input), one row a sample; whatever
    follows the first axis is laid out in one row, so a feature map ``(n, C, H, W)`` becomes
    ``(n, C H W)``.

    Args:
        model: any module that returns logits ``(n, c)``.
        layer: the name of one of its modules, as in ``model.named_modules()``.

    Raises:
        ValueError: no module of that name (the message lists them).

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> outputs = Tapped(net, "1")(torch.zeros(5, 4))
        >>> outputs.logits.shape, outputs.features.shape
        (torch.Size([5, 3]), torch.Size([5, 8]))
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        names = [name for name, _ in model.named_modules() if name]
        if layer not in names:
            raise ValueError(f"no layer {layer!r}; choose from {', '.join(names) or 'none'}")
        self.model, self.layer = model, layer

    def forward(self, *inputs: Any, **options: Any) -> Outputs:  # noqa: ANN401
        """Logits and tapped features of one batch.

        Raises:
            RuntimeError: the layer was not run, or did not give a tensor.
        """
        seen: list[Any] = []
        hook = self.model.get_submodule(self.layer).register_forward_hook(
            lambda module, given, output: seen.append(output)
        )
        try:
            logits = self.model(*inputs, **options)
        finally:
            hook.remove()
        if not seen or not isinstance(seen[-1], Tensor):
            what = f"gave a {type(seen[-1]).__name__}" if seen else "was not run"
            raise RuntimeError(
                f"layer {self.layer!r} {what}; expected a tensor (n, ...): tap another layer"
            )
        return Outputs(logits, seen[-1].flatten(1))
