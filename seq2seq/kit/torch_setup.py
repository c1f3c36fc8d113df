"""Which device to train on, and one call for all random seeds."""

import operator
import os
import random
import warnings

import numpy as np
import torch


def device() -> torch.device:
    """CUDA if there is one, else Apple's MPS, else the CPU; the environment variable SEQ2SEQ_DEVICE decides otherwise.

    A GPU that this torch has no kernels for is passed over, with a warning. On NVIDIA's, recurrent networks and
    convolutions compute in full precision from now on (no TF32): chapters prove that two ways to compute agree. Raises
    ValueError if SEQ2SEQ_DEVICE names a device that does not work here.
    """
    torch.backends.cudnn.allow_tf32 = False
    forced = os.environ.get("SEQ2SEQ_DEVICE", "")
    if forced:
        if error := failure(forced):
            raise ValueError(f"SEQ2SEQ_DEVICE is {forced!r}, which does not work here; set it to cpu, or unset it "
                             f"({error})")
        return torch.device(forced)
    for kind, available in (("cuda", torch.cuda.is_available), ("mps", torch.backends.mps.is_available)):
        if available():
            if not (error := failure(kind)):
                return torch.device(kind)
            warnings.warn(f"There is a GPU, but torch {torch.__version__} cannot compute on it, so the CPU is used; "
                          f"install a torch that is built for your GPU ({error})", stacklevel=2)
    return torch.device("cpu")


def failure(name: str) -> str:
    """What goes wrong in a small computation on a device, in torch's words; nothing if it works."""
    try:
        torch.ones(3, device=name).tanh().sum().item()
    except (RuntimeError, AssertionError) as error:
        return str(error).partition("\n")[0] or repr(error)
    return ""


def seed_everything(seed: int = 0) -> None:
    """Seed Python's, NumPy's and PyTorch's global generators. Raises ValueError for a seed outside 0 … 2**32 - 1."""
    seed = operator.index(seed)
    if not 0 <= seed < 2**32:
        raise ValueError(f"a seed lies between 0 and 2**32 - 1; {seed} does not")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
