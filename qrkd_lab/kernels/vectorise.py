"""Turning per-gate scalars of a traced graph into one vector operation for all gates.

A circuit is written gate by gate: ``RZ(2 * x[..., 0])``, ``RZ(2 * x[..., 1])``, ... The traced
graph then holds hundreds of tiny operations, which cost far more than the arithmetic in them. As
all gates of a kind compute the same expression of different columns, that expression is evaluated
here once, on the matrix of all the columns: ``2 * x``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import Argument

__all__ = ["stack_graph"]

_ATEN = torch.ops.aten
_ELEMENTWISE = {
    getattr(getattr(_ATEN, name), overload)
    for name, overloads in {
        "add": ("Tensor", "Scalar"),
        "sub": ("Tensor", "Scalar"),
        "rsub": ("Tensor", "Scalar"),
        "mul": ("Tensor", "Scalar"),
        "div": ("Tensor", "Scalar"),
        "pow": ("Tensor_Scalar", "Tensor_Tensor"),
        **dict.fromkeys(
            ("neg", "abs", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"),
            ("default",),
        ),
        **dict.fromkeys(("exp", "log", "sqrt", "square", "reciprocal", "sigmoid"), ("default",)),
    }.items()
    for overload in overloads
}


def stack_graph(module: GraphModule, count: int) -> tuple[GraphModule, list[tuple[int, float]]]:
    """The same graph, with its first ``count`` outputs ``(n,)`` taken from one ``(n, r)``.

    Columns of like form are computed together, equal ones once, and constant factors not at all:
    they are left to the caller. The rest is stacked as it is.

    Returns:
        The graph, and for each of the ``count`` outputs its column in ``(n, r)`` and its factor.
    """
    graph = module.graph
    output = next(node for node in graph.nodes if node.op == "output")
    results = list(output.args[0])
    places: list[tuple[int, float]] = []
    if count:
        with graph.inserting_before(output):
            stacker = _Stacker(module, graph)
            factors, nodes = zip(*(_without_factor(node) for node in results[:count]), strict=True)
            keys = [stacker.key(node) for node in nodes]
            unique = list(dict.fromkeys(keys))
            places = [(unique.index(k), f) for k, f in zip(keys, factors, strict=True)]
            stacked = stacker.columns([nodes[keys.index(key)] for key in unique])
        output.args = ([stacked, *results[count:]],)
    graph.eliminate_dead_code()
    graph.lint()
    module.recompile()
    return module, places


def _without_factor(node: Node) -> tuple[float, Node]:
    """c and y of a node that computes c * y, c a number."""
    factor = 1.0
    while node.target is _ATEN.mul.Tensor and isinstance(node.args[1], (int, float)):
        factor, node = factor * node.args[1], node.args[0]
    return factor, node


class _Stacker:
    """Builds the stacked nodes; equal requests give the same node, so nothing is computed twice."""

    def __init__(self, module: GraphModule, graph: Graph) -> None:
        self.module, self.graph = module, graph
        angles = next(node for node in graph.nodes if node.op == "placeholder")
        self.like = angles.meta["val"]  # for the dtype and device of constants
        self.made: dict[object, Node] = {}

    def columns(self, nodes: Sequence[Node]) -> Node:
        """A node of shape (n, m), for m different columns: runs of one form each, side by side."""
        runs: list[list[Node]] = []
        for node in nodes:
            if runs and self._form(runs[-1][0]) == self._form(node):
                runs[-1].append(node)
            else:
                runs.append([node])
        parts = [self._stack(tuple(run)) for run in runs]
        return parts[0] if len(parts) == 1 else self._call(_ATEN.cat.default, (parts, -1))

    def _form(self, node: Argument) -> object:
        """What two nodes must share to be computed as one; leaves count by their kind only."""
        if not isinstance(node, Node):
            return type(node)
        if node.target in _ELEMENTWISE and not node.kwargs:
            # A Scalar argument stays a number, so only equal ones can be computed together.
            exact = "Scalar" in node.target._overloadname
            forms = (
                arg if exact and not isinstance(arg, Node) else self._form(arg) for arg in node.args
            )
            return (node.target, tuple(forms))
        if node.target is _ATEN.select.int and node.args[0].meta["val"].ndim == 2:
            return ("column of", self._source(node))
        return node

    def key(self, node: Argument) -> object:
        """Equal for two nodes that compute the same numbers."""
        if not isinstance(node, Node):
            return node
        if node.target in _ELEMENTWISE and not node.kwargs:
            return (node.target, tuple(self.key(arg) for arg in node.args))
        if node.target is _ATEN.select.int and node.args[0].meta["val"].ndim == 2:
            source, axis = self._source(node)
            return (source, axis, node.args[2] % source.meta["val"].shape[axis])
        return node

    @staticmethod
    def _source(node: Node) -> tuple[Node, int]:
        """The matrix a column was taken from and the axis it was taken along, seen through .T"""
        source, axis = node.args[0], node.args[1] % 2
        while source.target is _ATEN.permute.default and list(source.args[1]) == [1, 0]:
            source, axis = source.args[0], 1 - axis
        return source, axis

    def _stack(self, nodes: tuple[Argument, ...]) -> Argument:
        """(n, m), or (n, 1) where all columns are one, or a number, for nodes of one form."""
        first = nodes[0]
        if not isinstance(first, Node):
            same = all(value == first for value in nodes)
            return first if same else self._constant(nodes)
        if all(node is first for node in nodes):
            return self._call(_ATEN.unsqueeze.default, (first, -1))
        if first.target in _ELEMENTWISE:
            args = tuple(
                self._stack(tuple(column)) for column in zip(*(v.args for v in nodes), strict=True)
            )
            return self._call(first.target, args)
        if first.target is not _ATEN.select.int:
            return self._call(_ATEN.stack.default, (nodes, -1))
        source, axis = self._source(first)
        width = source.meta["val"].shape[axis]
        if axis == 0:
            source = self._call(_ATEN.permute.default, (source, [1, 0]))
        picked = [node.args[2] % width for node in nodes]
        if picked == list(range(width)):
            return source
        return self._call(_ATEN.index_select.default, (source, 1, self._index(picked)))

    def _call(self, target: Callable[..., object], args: tuple[Argument, ...]) -> Node:
        key = (target, repr(args))
        if key not in self.made:
            self.made[key] = self.graph.call_function(target, args)
        return self.made[key]

    def _constant(self, values: Sequence[float]) -> Node:
        like = self.like
        return self._attribute(torch.tensor(values, dtype=like.dtype, device=like.device))

    def _index(self, picked: Sequence[int]) -> Node:
        return self._attribute(torch.tensor(picked, device=self.like.device))

    def _attribute(self, value: torch.Tensor) -> Node:
        key = ("constant", str(value.tolist()), value.dtype)
        if key not in self.made:
            name = f"stacked_{len(self.made)}"
            self.module.register_buffer(name, value)
            self.made[key] = self.graph.get_attr(name)
        return self.made[key]
