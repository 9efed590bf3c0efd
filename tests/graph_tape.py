"""A stand-in for CUDA graphs: records operations on tensors, and repeats them in place."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "aten.equal.")
_UPLOADS = ("lift_fresh", "scalar_tensor")


def _tensors(*values):
    return [one for one in tree_leaves(values) if isinstance(one, torch.Tensor)]


class Pure(TorchDispatchMode):
    """Fails where a CUDA graph would: reads from the device, and tensors made from host memory."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = str(func), kwargs or {}
        masks = name.startswith(("aten.index.", "aten.index_put")) and any(
            one.dtype == torch.bool for one in _tensors(args[1])
        )
        if masks or any(part in name for part in _READS + _UPLOADS):
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        return self.call(func, args, kwargs)

    def call(self, func, args, kwargs):
        return func(*args, **kwargs)


class Tape(Pure):
    """Records operations, with their operands and results."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def call(self, func, args, kwargs):
        result = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, result))
        return result

    @torch.inference_mode()
    def play(self):
        """Repeat the operations; their results go where they went before."""
        for func, args, kwargs, before in self.operations:
            if not func._schema.is_mutable and not _new(args, kwargs, before):
                continue  # a view
            again = func(*args, **kwargs)
            for old, new in zip(_tensors(before), _tensors(again), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    def poison(self):
        """Overwrite all results: a capture computes nothing, only its repetition does."""
        for _, args, kwargs, before in self.operations:
            for one in _new(args, kwargs, before):
                one.fill_(float("nan") if one.is_floating_point() else 0)


def _new(args, kwargs, results):
    """Results that are not in the memory of an operand."""
    operands = {one.untyped_storage().data_ptr() for one in _tensors(args, kwargs)}
    return [one for one in _tensors(results) if one.untyped_storage().data_ptr() not in operands]


class TapeRecorder:
    """Recorder of decode steps on any device.

    Nothing of Python is repeated, as with CUDA graphs: numbers are those of the capture.

    Args:
        failure: An error that each capture raises; None: none.
    """

    def __init__(self, failure=None):
        self.failure = failure
        self.captures = 0

    def warm_up(self, run):
        with Pure():
            return run()

    def capture(self, run):
        self.captures += 1
        if self.failure is not None:
            raise self.failure
        tape = Tape()
        with tape:
            result = run()
        tape.poison()

        def replay():
            tape.play()
            return result

        return replay
