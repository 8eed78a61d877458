"""PyTorch: an nn.Module becomes ONNX, so that no replica needs PyTorch."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairlead.errors import Missing
from fairlead.flavors.net import OPSET, Matrix, Nets, Weights

if TYPE_CHECKING:
    import onnx

__all__ = ["modules", "seed"]


def seed(number: int) -> None:
    """Draw alike and add up alike in every run, on the CPU bit for bit."""
    import torch

    torch.manual_seed(number)
    torch.use_deterministic_algorithms(True)


def _ready(model: Any) -> Any:
    return getattr(model, "_orig_mod", model).cpu().eval()  # what torch.compile wraps, or itself


def _raw(model: Any, rows: Matrix) -> NDArray[Any]:
    import torch

    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(np.ascontiguousarray(rows))).numpy())


def _graph(model: Any, width: int) -> "onnx.ModelProto":
    import torch

    try:
        import onnxscript  # noqa: F401  named here so that its absence is told apart from a refusal
    except ImportError:
        raise Missing("onnxscript is not installed", hint='pip install "fairlead[torch]"') from None
    made = torch.onnx.export(
        model, (torch.zeros((2, width)),), dynamo=True, opset_version=OPSET, input_names=["X"],
        output_names=["raw"], dynamic_shapes=({0: torch.export.Dim("rows")},), verbose=False,
    )  # fmt: skip
    return made.model_proto  # type: ignore[no-any-return]


def _weights(model: Any) -> Weights:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def _restored(weights: Weights) -> Any:
    import torch

    return {name: torch.from_numpy(array) for name, array in weights.items()}


modules = Nets(ready=_ready, raw=_raw, graph=_graph, weights=_weights, restored=_restored,
               state="state.torch.npz")  # fmt: skip
"""`data.last` is what ``load_state_dict`` takes."""
