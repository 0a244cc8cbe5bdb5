"""The models of the zoo: one registry line each, built from code with random weights.

Knows nothing of pruning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

Example = tuple[Tensor, ...]
TOKENS = ("input_ids", "attention_mask")


@dataclass(frozen=True)
class Model:
    """How to build one model, and what to feed its exporter."""

    name: str
    build: Callable[[], tuple[nn.Module, Example]]
    inputs: tuple[str, ...] = ("input",)
    fast: bool = False
    dynamic: bool = True  # whether the exported graph can serve another batch size


class Logits(nn.Module):
    """A transformers model with token ids in and one tensor out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return outputs.logits


def image(size: int, channels: int = 3) -> Example:
    return (torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0)),)


def vision(name: str, size: int = 224, **options: Any) -> tuple[nn.Module, Example]:
    return torchvision.models.get_model(name, weights=None, **options), image(size)


def small_vit() -> tuple[nn.Module, Example]:
    model = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=128
    )
    return model, image(32)


def yolov8n() -> tuple[nn.Module, Example]:
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel("yolov8n.yaml", verbose=False)
    head = model.model[-1]
    head.export, head.format = True, "onnx"
    return model, (image(320)[0][:1],)


def token_ids(vocabulary: int) -> Example:
    ids = torch.randint(vocabulary, (2, 16), generator=torch.Generator().manual_seed(0))
    return ids, torch.ones_like(ids)


def bert() -> tuple[nn.Module, Example]:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=256,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
        num_labels=4,
        initializer_range=0.1,
    )
    return Logits(BertForSequenceClassification(config)), token_ids(config.vocab_size)


def gpt2() -> tuple[nn.Module, Example]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=256,
        n_embd=64,
        n_layer=3,
        n_head=4,
        n_positions=64,
        initializer_range=0.1,
        use_cache=False,
    )
    return Logits(GPT2LMHeadModel(config)), token_ids(config.vocab_size)


def llama() -> tuple[nn.Module, Example]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.1,
        use_cache=False,
    )
    return Logits(LlamaForCausalLM(config)), token_ids(config.vocab_size)


MODELS: tuple[Model, ...] = (
    Model("resnet18", lambda: vision("resnet18"), fast=True),
    Model("mobilenet_v3_large", lambda: vision("mobilenet_v3_large")),
    Model("swin_t", lambda: vision("swin_t")),
    Model("vit_b_16", lambda: vision("vit_b_16")),
    Model("bert_tiny", bert, inputs=TOKENS, fast=True),
    Model("llama_tiny", llama, inputs=TOKENS, fast=True),
    Model("gpt2_tiny", gpt2, inputs=TOKENS),
    Model("yolov8n", yolov8n, dynamic=False),
    Model("resnet50", lambda: vision("resnet50")),
    Model("vgg16", lambda: vision("vgg16")),
    Model("densenet121", lambda: vision("densenet121")),
    Model("mobilenet_v2", lambda: vision("mobilenet_v2")),
    Model("mobilenet_v3_small_64", lambda: vision("mobilenet_v3_small", 64), fast=True),
    Model("efficientnet_b0", lambda: vision("efficientnet_b0")),
    Model("shufflenet_v2_x1_0", lambda: vision("shufflenet_v2_x1_0")),
    Model("shufflenet_v2_x1_0_64", lambda: vision("shufflenet_v2_x1_0", 64), fast=True),
    Model("googlenet", lambda: vision("googlenet", aux_logits=False, init_weights=False)),
    Model("squeezenet1_1", lambda: vision("squeezenet1_1")),
    Model("regnet_y_400mf", lambda: vision("regnet_y_400mf")),
    Model("convnext_tiny", lambda: vision("convnext_tiny")),
    Model("vit_small_32", small_vit, fast=True),
)
