"""A stand-in for CUDA graphs: records operations on tensors, and repeats them on the same memory."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal.default", "is_pinned")


def _tensors(*values):
    return [one for one in tree_leaves(values) if isinstance(one, torch.Tensor)]


class Pure(TorchDispatchMode):
    """Fails where a CUDA graph would: reads from the device, and tensors made from host memory."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = str(func), kwargs or {}
        masks = name.startswith(("aten.index.", "aten.index_put")) and any(
            one.dtype == torch.bool for one in _tensors(args[1])
        )
        if masks or "lift_fresh" in name or any(read in name for read in _READS):
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
            inputs = {one.untyped_storage().data_ptr() for one in _tensors(args, kwargs)}
            results = _tensors(before)
            is_view = all(one.untyped_storage().data_ptr() in inputs for one in results)
            if is_view and not func._schema.is_mutable:
                continue
            again = _tensors(func(*args, **kwargs))
            for old, new in zip(results, again, strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


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
        poison(tape)

        def replay():
            tape.play()
            return result

        return replay


def poison(tape):
    """Overwrite the results of a tape that it computes again, since a capture computes nothing."""
    for func, args, kwargs, before in tape.operations:
        inputs = {one.untyped_storage().data_ptr() for one in _tensors(args, kwargs)}
        for one in _tensors(before):
            if one.untyped_storage().data_ptr() not in inputs and one.is_floating_point():
                one.fill_(float("nan"))
