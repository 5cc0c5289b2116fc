"""A tap on any torch model: its logits, and the features of one of its layers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from qrkd_lab.losses import Outputs

__all__ = ["Tapped"]

POOLS = ("mean", "last", "flatten")


class Tapped(nn.Module):
    """A model of yours that also says what one of its layers gave.

    The model stays as it is: its parameters are shared, not copied, and ``tapped.model`` is the
    model itself. What is tapped is the output of the layer that you name, or else what enters the
    last ``nn.Linear``: as it is at that moment, whatever works on it in place later, one row a
    sample. A feature map ``(n, C, H, W)`` is laid out in one row, ``(n, C H W)``; for
    ``(n, t, d)`` you say what to do.

    Args:
        model: any module that returns logits ``(n, c)``, a tuple that begins with them, or an
            object or dict that has ``logits``.
        layer: the name of one of its modules, as in ``model.named_modules()``; it must be run once
            a call, and give a tensor or an object with ``last_hidden_state``. None: the last
            ``nn.Linear``, whose *input* is tapped; nothing is tapped of a model that returns
            :class:`~qrkd_lab.losses.Outputs`, which has features already.
        pool: of an output ``(n, t, d)``: ``mean`` or ``last`` of the tokens, those of
            ``attention_mask`` where the model is given one, else all; ``flatten`` for what is no
            row of tokens, such as a feature map ``(n, C, L)``.

    Raises:
        ValueError: no module of that name (the message lists them), or an unknown pool.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> outputs = Tapped(net, "1")(torch.zeros(5, 4))
        >>> outputs.logits.shape, outputs.features.shape
        (torch.Size([5, 3]), torch.Size([5, 8]))
    """

    def __init__(self, model: nn.Module, layer: str | None = None, pool: str | None = None) -> None:
        super().__init__()
        layers = dict(model.named_modules(remove_duplicate=False))
        names = [name for name in layers if name]
        if layer is not None and layer not in names:
            raise ValueError(f"no layer {layer!r}; choose from {', '.join(names) or 'none'}")
        if pool not in (None, *POOLS):
            raise ValueError(f"unknown pool {pool!r}; choose from {', '.join(POOLS)}")
        self.before = layer is None
        if self.before:
            linear = [name for name, one in layers.items() if isinstance(one, nn.Linear)]
            layer = linear[-1] if linear else None
        self.model, self.layer, self.pool = model, layer, pool

    def forward(self, *inputs: Any, **options: Any) -> Outputs:  # noqa: ANN401
        """Logits and tapped features of one batch.

        Raises:
            RuntimeError: the layer was not run, or more than once, or did not give a tensor; or the
                model is asked without gradient while its batch norm or dropout is in training mode.
            TypeError: the model did not give logits.
            ValueError: features that are not one row per sample.
        """
        self._check_mode()
        seen: list[Any] = []

        def see(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
            found = given[0] if self.before else output
            found = getattr(found, "last_hidden_state", found)  # an encoder of transformers
            seen.append(found.clone() if isinstance(found, Tensor) else found)

        hook = self.model.get_submodule(self.layer or "").register_forward_hook(see)
        try:
            said = self.model(*inputs, **options)
        finally:
            hook.remove()
        if self.before and isinstance(said, Outputs):
            return said
        if self.layer is None:
            names = ", ".join(name for name, _ in self.model.named_modules() if name)
            raise ValueError(f"the model has no nn.Linear: name the layer to tap, of {names}")
        if len(seen) != 1 or not isinstance(seen[0], Tensor):
            gave = f"gave a {type(seen[0]).__name__}" if seen else ""
            what = gave if len(seen) == 1 else f"was run {len(seen)} times"
            raise RuntimeError(
                f"layer {self.layer!r} {what}; expected one tensor (n, ...) a call: tap another "
                "layer"
            )
        logits, features = _logits(said), seen[0]
        pools = self.pool in ("mean", "last")
        if features.ndim == 3 and pools:
            features = self._pooled(features, inputs, options)
        elif features.ndim < 2 or pools or (features.ndim == 3 and self.pool is None):
            raise ValueError(
                f"layer {self.layer!r} gave {tuple(features.shape)}: give pool='mean' or 'last' "
                "for hidden states (n, t, d) of tokens, pool='flatten' for a feature map "
                "(n, C, L), no pool for another shape (n, ...)"
            )
        if len(logits) % max(1, len(features)):
            raise ValueError(
                f"layer {self.layer!r} gave {len(features)} rows beside {len(logits)} logits; "
                "expected a row per sample: tap another layer, or one with the batch as first axis"
            )
        return Outputs(logits, features.flatten(1))

    def _pooled(
        self, hidden: Tensor, inputs: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Tensor:
        """One row per sample of hidden states ``(n, t, d)``; padding does not count."""
        given = inspect.signature(self.model.forward).bind(*inputs, **options).arguments
        mask = options.get("attention_mask", given.get("attention_mask"))
        mask = hidden.new_ones(hidden.shape[:2]) if mask is None else mask
        if mask.shape != hidden.shape[:2]:
            raise ValueError(
                f"attention_mask: expected {tuple(hidden.shape[:2])}, as the output of layer "
                f"{self.layer!r}, got {tuple(mask.shape)}"
            )
        counts = mask.to(hidden.device).bool()
        if self.pool == "last":
            place = torch.arange(1, hidden.shape[1] + 1, device=hidden.device)
            return hidden[torch.arange(len(hidden)), (counts * place).argmax(1)]
        total = hidden.masked_fill(~counts.unsqueeze(2), 0).sum(1)
        return total / counts.sum(1, keepdim=True).clamp(min=1)

    def _check_mode(self) -> None:
        """Refuse what would change the features, or the model, of one that is not being trained."""
        trained = torch.is_grad_enabled() and any(p.requires_grad for p in self.model.parameters())
        for name, module in self.model.named_modules() if not trained else ():
            normalises = isinstance(module, _NormBase) and module.track_running_stats
            drops = isinstance(module, _DropoutNd) and module.p > 0
            if module.training and (normalises or drops):
                does = "would change its running averages" if normalises else "drops features"
                raise RuntimeError(
                    f"{type(module).__name__} {name!r} is in training mode and {does}, but the "
                    "model is asked without gradient: call .eval() first"
                )


def _logits(said: Any) -> Tensor:  # noqa: ANN401
    """The logits of what a model returned."""
    found = said.get("logits") if isinstance(said, Mapping) else getattr(said, "logits", said)
    if isinstance(found, tuple) and found:
        found = found[0]
    if not isinstance(found, Tensor) or not found.ndim:
        raise TypeError(
            f"the model gave a {type(said).__name__}; expected logits, a tensor (n, c), a tuple "
            "that begins with them, or an object or dict with logits: wrap the model in one that "
            "returns them"
        )
    return found
