"""The models that speed is measured on: architectures that people use, with random weights.

Knows nothing of pruning.

    python bench/speedmodels.py                          # their names
    python bench/speedmodels.py resnet18 target/speed    # writes target/speed/resnet18/model.onnx
"""

import contextlib
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from export import Exporter, quiet

Example = tuple[Tensor, ...]
TOKENS = 32


@dataclass(frozen=True)
class SpeedModel:
    """How to build one model, and which layers make its outputs."""

    name: str
    build: Callable[[], tuple[nn.Module, Example]]
    exporter: Exporter = Exporter.LEGACY


class FirstOutput(nn.Module):
    """A transformers model with token ids in and one tensor out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, return_dict=False)[0]


def vision(name: str, size: int = 224) -> tuple[nn.Module, Example]:
    return torchvision.models.get_model(name, weights=None), (torch.randn(1, 3, size, size),)


def token_ids(vocabulary: int) -> Example:
    return (torch.randint(vocabulary, (1, TOKENS)),)


def bert_base() -> tuple[nn.Module, Example]:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig()
    return FirstOutput(BertForSequenceClassification(config)), token_ids(config.vocab_size)


def llama_1b() -> tuple[nn.Module, Example]:
    """The shape of Llama 3.2 1B: 1.24 G parameters, grouped queries, tied embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=True,
        use_cache=False,
    )
    return FirstOutput(LlamaForCausalLM(config)), token_ids(config.vocab_size)


def yolov8x() -> tuple[nn.Module, Example]:
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel("yolov8x.yaml", verbose=False)
    head = model.model[-1]
    head.export, head.format = True, "onnx"
    return model, (torch.randn(1, 3, 640, 640),)


MODELS: tuple[SpeedModel, ...] = (
    SpeedModel("resnet18", lambda: vision("resnet18")),
    SpeedModel("resnet50", lambda: vision("resnet50")),
    SpeedModel("resnet152", lambda: vision("resnet152")),
    SpeedModel("densenet121", lambda: vision("densenet121")),
    SpeedModel("densenet201", lambda: vision("densenet201")),
    SpeedModel("vgg16", lambda: vision("vgg16")),
    SpeedModel("mobilenet_v3_large", lambda: vision("mobilenet_v3_large")),
    SpeedModel("efficientnet_b7", lambda: vision("efficientnet_b7", 600)),
    SpeedModel("convnext_large", lambda: vision("convnext_large")),
    SpeedModel("vit_b_16", lambda: vision("vit_b_16")),
    SpeedModel("bert_base", bert_base),
    SpeedModel("yolov8x", yolov8x),
    SpeedModel("llama_1b", llama_1b, Exporter.DYNAMO),
)


def named(name: str) -> SpeedModel:
    return next(model for model in MODELS if model.name == name)


def write(model: SpeedModel, cache: Path) -> Path:
    """The model's ONNX file in a folder of its own, exported on first use."""
    folder = cache / model.name
    path = folder / "model.onnx"
    if path.exists():
        return path
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    torch.manual_seed(0)
    module, example = model.build()
    options: dict[str, object] = {"dynamo": False}
    if model.exporter is Exporter.DYNAMO:
        options = {"dynamo": True, "external_data": True, "verbose": False}
    torch.backends.mha.set_fastpath_enabled(False)
    with quiet(), torch.no_grad():
        torch.onnx.export(module.eval(), example, str(partial / "model.onnx"), **options)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    partial.rename(folder)
    return path


def main(arguments: Sequence[str]) -> int:
    if not arguments:
        print("\n".join(model.name for model in MODELS))
        return 0
    name, cache = arguments
    print(write(named(name), Path(cache)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
