"""Muon for small models on CPUs: momentum whose update is orthogonalised, in float32 and batched over equal shapes."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)
_STEPS = 5


def orthogonalise(matrices: Tensor) -> Tensor:
    """Moves the singular values of every matrix in `matrices` (count, rows, columns) close to 1.

    Five steps of the quintic Newton-Schulz iteration of Jordan et al., "Muon: An optimizer for hidden layers in neural
    networks" (https://kellerjordan.github.io/posts/muon/, 2024). In float32, because CPUs without bfloat16 units
    are slower in bfloat16.
    """
    a, b, c = _QUINTIC
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalise(matrices.mT).mT
    x: Tensor = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon:
    """Muon with Nesterov momentum and decoupled weight decay, for 2-D hidden weights only (AdamW trains the others).

    Updates are scaled by sqrt(max(1, rows / columns)), as in the source named in `orthogonalise`.
    """

    def __init__(self, parameters: Iterable[Tensor], *, momentum: float, weight_decay: float) -> None:
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in parameters:
            self._by_shape[parameter.shape].append(parameter)
        self._velocity = {shape: torch.zeros((len(same), *shape)) for shape, same in self._by_shape.items()}

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        for shape, same in self._by_shape.items():
            gradients = torch.stack([parameter.grad for parameter in same if parameter.grad is not None])
            velocity = self._velocity[shape]
            velocity.lerp_(gradients, 1 - self._momentum)
            updates = orthogonalise(gradients.lerp(velocity, self._momentum))
            scale = learning_rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for parameter, update in zip(same, updates, strict=True):
                parameter.mul_(1 - learning_rate * self._weight_decay).sub_(update, alpha=scale)
