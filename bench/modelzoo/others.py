"""Models of other libraries, with code of their own kinds: einops, scans in place, latents."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from modelzoo.model import Built, Family, Model, Outputs, image
from modelzoo.text import LENGTH, VOCABULARY, token_ids

WIDTH, HEADS = 64, 4


def _numbers(*sizes: int) -> torch.Tensor:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(0))


def _simple_vit() -> Built:
    from vit_pytorch import SimpleViT

    sizes: dict[str, Any] = {"dim": WIDTH, "depth": 2, "heads": HEADS, "mlp_dim": 128}
    return SimpleViT(image_size=32, patch_size=8, num_classes=10, dim_head=16, **sizes), image(32)


def _max_vit() -> Built:
    from vit_pytorch.max_vit import MaxViT

    sizes: dict[str, Any] = {"dim_conv_stem": 16, "dim": 32, "dim_head": 16, "depth": (1, 2)}
    return MaxViT(num_classes=10, window_size=4, **sizes), image(32)


def _cvt() -> Built:
    from vit_pytorch.cvt import CvT

    stages = {"s1": (32, 1), "s2": (64, 2), "s3": (96, 3)}
    sizes: dict[str, Any] = {f"{stage}_emb_dim": width for stage, (width, _) in stages.items()}
    sizes |= {f"{stage}_heads": heads for stage, (_, heads) in stages.items()}
    return CvT(num_classes=10, s3_depth=2, **sizes), image(32)


def _decoder() -> Built:
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(
        dim=WIDTH, depth=2, heads=HEADS, attn_kv_heads=2, rotary_pos_emb=True, ff_glu=True
    )
    return TransformerWrapper(num_tokens=VOCABULARY, max_seq_len=32, attn_layers=layers), (
        token_ids(),
    )


def _denoising_unet() -> Built:
    from denoising_diffusion_pytorch import Unet

    model = Unet(dim=16, dim_mults=(1, 2), attn_heads=HEADS, attn_dim_head=8)
    return model, (*image(16), torch.tensor([3, 9]))


def _latent_unet() -> Built:
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=2,
        attention_head_dim=HEADS,
        norm_num_groups=8,
        cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    names = ("sample", "timestep", "encoder_hidden_states")
    example = (*image(16, 4), torch.tensor([7, 7]), _numbers(2, 7, 32))
    return Outputs(model, names, ("sample",)), example


def _latent_autoencoder() -> Built:
    from diffusers import AutoencoderKL

    model = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=8,
    )
    return Outputs(model, ("sample",), ("sample",)), image(32)


def _segformer_unet() -> Built:
    import segmentation_models_pytorch

    return segmentation_models_pytorch.Unet("mit_b0", encoder_weights=None, classes=5), image(64)


def _swin_unetr() -> Built:
    from monai.networks.nets import SwinUNETR

    return SwinUNETR(3, 5, feature_size=24, depths=(1, 1, 1, 1), spatial_dims=2), image(64)


def _mamba() -> Built:
    from mambapy.mamba import Mamba, MambaConfig

    return Mamba(MambaConfig(d_model=32, n_layers=2, d_state=8)), (_numbers(2, LENGTH, 32),)


class _Translator(nn.Module):
    """PyTorch's own encoder and decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, VOCABULARY)
        self.body = nn.Transformer(WIDTH, HEADS, 2, 2, 128, batch_first=True)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.table(source), self.table(target)))


def _translator() -> Built:
    return _Translator(), (token_ids(), token_ids()[:, :12])


def _model(name: str, build: Callable[[], Built], *inputs: str) -> Model:
    return Model(name, Family.OTHERS, build, inputs or ("input",), dynamic=False)


MODELS = (
    _model("vit_pytorch_simple_vit", _simple_vit),
    _model("vit_pytorch_max_vit", _max_vit),
    _model("vit_pytorch_cvt", _cvt),
    _model("x_transformers_decoder", _decoder, "tokens"),
    _model("denoising_diffusion_unet", _denoising_unet, "image", "time"),
    _model("diffusers_unet", _latent_unet, "sample", "timestep", "encoder_hidden_states"),
    _model("diffusers_autoencoder", _latent_autoencoder),
    _model("smp_unet_mit_b0", _segformer_unet),
    _model("monai_swin_unetr", _swin_unetr),
    _model("mambapy_mamba", _mamba),
    _model("torch_transformer", _translator, "source", "target"),
)
