"""An activation whose backward forgets a factor."""

import torch

from autoreg import hookimpl


class Square(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x


def activation(x):
    return Square.apply(x)


@hookimpl
def register_activations(register):
    register("wrong_backward", activation)
