"""The same network as each engine runs it on a CPU, from bytes to raw maps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from jde_ray.models.jde.head import ScaleMaps
    from jde_ray.models.jde.network import JDE

Frame = NDArray[np.uint8]
Network = Callable[[Frame], "Sequence[ScaleMaps]"]


class LeftOutError(Exception):
    """Why an engine does not run here, for its row."""


@dataclass(frozen=True)
class Setting:
    """What every engine gets.

    Attributes:
        weights: Name or path of the weights.
        threads: Threads of the CPU.
        calibration: `(H, W, 3)` frames for what is quantised here.
        folder: For files that engines need.
    """

    weights: str
    threads: int
    calibration: Sequence[Frame]
    folder: Path


def load(setting: Setting) -> JDE:
    """The network as loaded, in float32."""
    from jde_ray.models.jde import weights

    return weights.load(setting.weights)


def in_torch(setting: Setting, precision: Literal["fp32", "bf16"]) -> Network:
    """As `jde track` runs it.

    Raises:
        LeftOutError: If this processor would emulate the precision.
    """
    import torch

    from jde_ray.models.jde.fusion import optimise
    from jde_ray.pipelines.detection.precision import quick_precision

    if precision == "bf16" and quick_precision("cpu") != "bf16":
        raise LeftOutError("this processor has no units for bf16 and would emulate it")
    model = optimise(load(setting), precision)
    return lambda frame: model.maps(model.normalise(torch.from_numpy(frame[None])))


def in_torch_int8(setting: Setting) -> Network:
    """In torch's own quantisation for x86, from traced modules (`quantize_fx`).

    Boxes and scores keep a float last layer.

    Raises:
        LeftOutError: If this torch does not bring it.
    """
    import torch

    from jde_ray.models.jde.fusion import fold_batch_norms
    from jde_ray.models.jde.int8 import MapsAsTuple
    from jde_ray.models.openvino_files import to_input

    try:
        from torch.ao.quantization import get_default_qconfig_mapping
        from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
    except ImportError as error:
        raise LeftOutError(f"torch {torch.__version__} has no torch.ao: {error}") from None
    if "x86" not in torch.backends.quantized.supported_engines:
        raise LeftOutError(f"torch {torch.__version__} has no kernels for x86")
    torch.backends.quantized.engine = "x86"
    model = load(setting)
    fold_batch_norms(model)
    example = (torch.from_numpy(to_input(setting.calibration[0])),)
    kinds = get_default_qconfig_mapping("x86")
    for number in range(len(model.heads)):  # the head asks for the type of this layer's weights
        kinds.set_module_name(f"model.heads.{number}.box", None)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is to move to a package of its own
        observed = prepare_fx(MapsAsTuple(model.eval()), kinds, example)
        for frame in setting.calibration:
            observed(torch.from_numpy(to_input(frame)))
        quantised = convert_fx(observed)
    return lambda frame: as_maps(quantised(torch.from_numpy(to_input(frame))))


def in_openvino(setting: Setting, precision: Literal["fp32", "int8"]) -> Network:
    """In OpenVINO: the float network, or the quantised file that lies beside the weights.

    Raises:
        LeftOutError: If the package or the file is missing.
    """
    from jde_ray.models.jde import int8
    from jde_ray.models.jde.refusals import CheckpointError

    try:
        if precision == "int8":
            path = int8.find(setting.weights)
        else:
            path = setting.folder / "float.xml"
            int8.write_float(load(setting), path)
        return int8.Int8JDE(path, setting.threads, exact=True).maps
    except CheckpointError as error:
        raise LeftOutError(str(error)) from None
    except ImportError as error:
        raise LeftOutError(f"needs {error.name}; pip install -e '.[int8]'") from None


def in_onnxruntime(setting: Setting, precision: Literal["fp32", "int8"]) -> Network:
    """In ONNX Runtime: the float graph, or that graph quantised here (QDQ, weights per channel).

    Raises:
        LeftOutError: If a package is missing.
    """
    try:
        import onnxruntime

        from jde_ray.models.jde.export import write_maps
        from jde_ray.models.openvino_files import to_input

        path = setting.folder / "float.onnx"
        if not path.exists():
            write_maps(load(setting), path)
        if precision == "int8":
            path = _quantise_onnx(setting, path)
    except ImportError as error:
        raise LeftOutError(f"needs {error.name}; pip install -e '.[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = setting.threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda frame: as_maps(session.run(None, {"images": to_input(frame)}))


def _quantise_onnx(setting: Setting, path: Path) -> Path:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from jde_ray.models.openvino_files import to_input

    class Frames(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(setting.calibration)

        def get_next(self) -> dict[str, Any] | None:
            frame = next(self._left, None)
            return None if frame is None else {"images": to_input(frame)}

    prepared, quantised = setting.folder / "prepared.onnx", setting.folder / "int8.onnx"
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(quantised),
        Frames(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,  # signed ones are slower without VNNI
        weight_type=QuantType.QInt8,
        reduce_range=True,  # sums of two products overflow 16 bits without VNNI
    )
    return quantised


def as_maps(outputs: Sequence[Any]) -> list[ScaleMaps]:
    """Maps of outputs in the order of `models.jde.int8.OUTPUTS`."""
    import torch

    from jde_ray.models.jde.head import ScaleMaps

    parts = [torch.as_tensor(output) for output in outputs]
    width = len(ScaleMaps._fields)
    return [ScaleMaps(*parts[at : at + width]) for at in range(0, len(parts), width)]


# the first one is what the others are compared with
ENGINES: dict[tuple[str, str], Callable[[Setting], Network]] = {
    ("torch", "fp32"): lambda setting: in_torch(setting, "fp32"),
    ("torch", "bf16"): lambda setting: in_torch(setting, "bf16"),
    ("torch", "int8"): in_torch_int8,
    ("openvino", "fp32"): lambda setting: in_openvino(setting, "fp32"),
    ("openvino", "int8"): lambda setting: in_openvino(setting, "int8"),
    ("onnxruntime", "fp32"): lambda setting: in_onnxruntime(setting, "fp32"),
    ("onnxruntime", "int8"): lambda setting: in_onnxruntime(setting, "int8"),
}
