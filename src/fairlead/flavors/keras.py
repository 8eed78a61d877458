"""Keras: a model on TensorFlow becomes ONNX, so that no replica needs TensorFlow."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairlead.errors import Invalid, Missing
from fairlead.flavors.net import OPSET, Matrix, Nets, Weights

if TYPE_CHECKING:
    import onnx

__all__ = ["models", "seed"]


def seed(number: int) -> None:
    """Draw alike and add up alike in every run, on the CPU bit for bit."""
    import keras

    keras.utils.set_random_seed(number)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def _ready(model: Any) -> Any:
    return model


def _raw(model: Any, rows: Matrix) -> NDArray[Any]:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(model(rows, training=False)))


def _graph(model: Any, width: int) -> "onnx.ModelProto":
    import keras

    if keras.backend.backend() != "tensorflow":
        raise Invalid(f"Keras runs on {keras.backend.backend()}",
                      hint="only models on TensorFlow are converted: unset KERAS_BACKEND")  # fmt: skip
    import tensorflow as tf

    try:
        import tf2onnx
        from onnx import numpy_helper
    except ImportError:
        raise Missing("tf2onnx is not installed", hint='pip install "fairlead[tensorflow]"') from None
    signature = [tf.TensorSpec([None, width], tf.float32, name="X")]
    traced = tf.function(lambda rows: model(rows, training=False), input_signature=signature)
    made, _ = tf2onnx.convert.from_function(traced, signature, opset=OPSET)
    # Constants that a layer holds outside its variables (Normalization does) come out as inputs.
    held = {inner.name: outer for outer, inner in traced.get_concrete_function().graph.captures}
    for extra in made.graph.input[1:]:
        made.graph.initializer.append(numpy_helper.from_array(held[extra.name].numpy(), extra.name))
    return made  # type: ignore[no-any-return]


def _weights(model: Any) -> Weights:
    return {f"{place:05}": array for place, array in enumerate(model.get_weights())}


def _restored(weights: Weights) -> Any:
    return [weights[name] for name in sorted(weights)]


models = Nets(ready=_ready, raw=_raw, graph=_graph, weights=_weights, restored=_restored,
              state="state.keras.npz")  # fmt: skip
"""`data.last` is what ``set_weights`` takes."""
