"""ONNX through onnxruntime, and its int8 form: linears' weights rounded to 8 bits, activations as they come."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calot.deploy.formats import Format, Scores, exported
from calot.deploy.scorer import Exportable
from calot.errors import CalotError, first_line

FILE, INT8_FILE = "model.onnx", "model.int8.onnx"
_OPSET = 18


class OpenNeuralNetwork(Format):
    """`model.onnx` for any number of clips, input `video` (uint8), output `logits`; `model.int8.onnx` where asked."""

    name = "onnx"
    needs = ("onnx", "onnxruntime", "onnxscript")

    def write(self, run: Exportable, folder: Path) -> dict[str, Any]:
        program, example = exported(run, what="onnx")
        try:
            with _quiet():
                made = torch.onnx.export(
                    program, input_names=["video"], output_names=["logits"], opset_version=_OPSET, verbose=False
                )
                made.save(folder / FILE, external_data=False)  # type: ignore[union-attr]
        except Exception as error:  # the exporter raises several unrelated families of errors
            raise CalotError(
                f"{run.folder}: cannot be written as onnx: {_operator(error)}. Use --format pt2 or hf."
            ) from error
        return {"opset": _OPSET, "input": f"uint8 (clips, {', '.join(map(str, example.shape[1:]))})"}

    def scores(self, folder: Path) -> Scores:
        return onnx_scores(folder / FILE)


def onnx_scores(path: Path) -> Scores:
    """A file as onnxruntime runs it on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(video: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(session.run(["logits"], {"video": video})[0], dtype=np.float32)

    return run


def quantise(folder: Path) -> Path:
    """Write `model.int8.onnx` beside `model.onnx`: weights of matrix products in int8, by output channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = folder / "prepared.onnx"
    with _quiet():
        quant_pre_process(str(folder / FILE), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(
            str(prepared),
            str(folder / INT8_FILE),
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
    prepared.unlink()
    return folder / INT8_FILE


def _operator(error: BaseException) -> str:
    """The operator that an exporter stumbled over, where it names one."""
    lines = [line.strip() for line in str(error).splitlines() if "aten" in line or "Unsupported" in line]
    return (lines or [first_line(error)])[0][:200]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's own talk: what is wrong is said by what the file then scores."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
