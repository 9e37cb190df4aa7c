"""Models that people use, built with random weights from three libraries, each with its smallest usual input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

TORCHVISION = (
    "alexnet vgg16 vgg19_bn resnet18 resnet50 resnext50_32x4d wide_resnet50_2 densenet121 googlenet inception_v3 "
    "squeezenet1_1 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mnasnet1_0 efficientnet_b0 efficientnet_v2_s "
    "regnet_y_400mf regnet_x_400mf convnext_tiny vit_b_16 swin_t swin3d_t fcn_resnet50 deeplabv3_resnet50 "
    "deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large r3d_18 mc3_18 r2plus1d_18"
)
TIMM = (
    "resnet50 resnet50d resnetv2_50 seresnet50 ecaresnet50d vovnet39a darknet53 regnety_004 regnetx_004 repvgg_a0 "
    "mobilenetv3_small_100 mobilenetv4_conv_small mobileone_s0 mixnet_s ghostnetv2_100 tf_efficientnetv2_b0 rexnet_100 "
    "convnext_atto convnextv2_atto inception_next_tiny densenet121 lambda_resnet26t botnet26t_256 vit_tiny_patch16_224 "
    "deit3_small_patch16_224 beit_base_patch16_224 cait_xxs24_224 xcit_nano_12_p16_224 swin_tiny_patch4_window7_224 "
    "swinv2_tiny_window8_256 twins_pcpvt_small pit_ti_224 pvt_v2_b0 crossvit_tiny_240 resmlp_12_224 gmlp_ti16_224 "
    "poolformer_s12 convformer_s18 edgenext_xx_small mobilevit_xxs mobilevitv2_050 repvit_m0_9 efficientvit_m0 "
    "tiny_vit_5m_224 coatnet_nano_rw_224 davit_tiny focalnet_tiny_srf nest_tiny convit_tiny mvitv2_tiny fasternet_t0 "
    "starnet_s1 vgg11_bn"
)
# Sizes other than (3, 224, 224).
SHAPES = {
    "inception_v3": (3, 299, 299),
    "r3d_18": (3, 8, 56, 56),
    "mc3_18": (3, 8, 56, 56),
    "r2plus1d_18": (3, 8, 56, 56),
    "swin3d_t": (3, 8, 56, 56),
}
# Heads that train beside the classifier and that no pass in eval mode runs.
AUXILIARY = {"googlenet": {"aux_logits": False}, "inception_v3": {"aux_logits": False}}

LAYERS, HIDDEN, HEADS, WIDE, WORDS, LENGTH = 2, 64, 4, 128, 99, 12
TEXT = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": WIDE,
    "vocab_size": WORDS,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "use_cache": False,
}
GROUPED = {**TEXT, "num_key_value_heads": 2}
EXPERTS = {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 1}
IMAGE = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": WIDE,
    "image_size": 32,
    "patch_size": 8,
}
FEW = {"vocab_size": WORDS, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "use_cache": False}
# By name: the class, the fields of its config that differ from the default, and the kind of input.
TRANSFORMERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "BertForMaskedLM": ("BertForMaskedLM", TEXT, "text"),
    "Roberta": ("RobertaForMaskedLM", TEXT, "text"),
    "Electra": ("ElectraForMaskedLM", {**TEXT, "embedding_size": HIDDEN}, "text"),
    "Deberta": (
        "DebertaForMaskedLM",
        {**TEXT, "pad_token_id": 0, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
        "text",
    ),
    "DistilBert": (
        "DistilBertForMaskedLM",
        {**FEW, "dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": WIDE},
        "text",
    ),
    "Albert": ("AlbertForMaskedLM", {**TEXT, "embedding_size": 32}, "text"),
    "GPT2": ("GPT2LMHeadModel", {**FEW, "n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS}, "text"),
    "OPT": ("OPTForCausalLM", {**TEXT, "ffn_dim": WIDE, "word_embed_proj_dim": HIDDEN}, "text"),
    "Bloom": ("BloomForCausalLM", {**FEW, "hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": HEADS}, "text"),
    "Llama": ("LlamaForCausalLM", GROUPED, "text"),
    "Mistral": ("MistralForCausalLM", GROUPED, "text"),
    "Qwen2": ("Qwen2ForCausalLM", GROUPED, "text"),
    "Gemma": ("GemmaForCausalLM", {**GROUPED, "head_dim": 16}, "text"),
    "Gemma2": ("Gemma2ForCausalLM", {**GROUPED, "head_dim": 16}, "text"),
    "Phi": ("PhiForCausalLM", GROUPED, "text"),
    "StableLm": ("StableLmForCausalLM", GROUPED, "text"),
    "Olmo2": ("Olmo2ForCausalLM", GROUPED, "text"),
    "Granite": ("GraniteForCausalLM", GROUPED, "text"),
    "Qwen2Moe": (
        "Qwen2MoeForCausalLM",
        {**EXPERTS, "moe_intermediate_size": 48, "shared_expert_intermediate_size": 80},
        "text",
    ),
    "Olmoe": ("OlmoeForCausalLM", EXPERTS, "text"),
    "Bart": (
        "BartForConditionalGeneration",
        {
            **{key: value for key, value in TEXT.items() if key not in ("hidden_size", "num_hidden_layers")},
            **{f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in
               (("layers", LAYERS), ("attention_heads", HEADS), ("ffn_dim", WIDE))},
            "d_model": HIDDEN,
            "decoder_start_token_id": 2,
        },
        "text",
    ),
    "ViT": ("ViTForImageClassification", IMAGE, "image"),
    "DeiT": ("DeiTForImageClassification", IMAGE, "image"),
    "Beit": ("BeitForImageClassification", {**IMAGE, "use_relative_position_bias": True}, "image"),
    "Swin": (
        "SwinForImageClassification",
        {"embed_dim": 32, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "image_size": 32, "patch_size": 4},
        "image",
    ),
    "ConvNext": ("ConvNextForImageClassification", {"hidden_sizes": [32, HIDDEN], "depths": [1, 1], "num_stages": 2},
                 "image"),
    "ResNet": (
        "ResNetForImageClassification",
        {"embedding_size": 32, "hidden_sizes": [HIDDEN, WIDE], "depths": [1, 1]},
        "image",
    ),
    "MobileViT": (
        "MobileViTForImageClassification",
        {"hidden_sizes": [48, HIDDEN, 80], "neck_hidden_sizes": [16, 16, 24, 48, 48, HIDDEN, 96], "image_size": 64},
        "image",
    ),
    "CLIP": ("CLIPModel", {}, "both"),
}  # fmt: skip
LIBRARIES = {
    "torchvision": tuple(TORCHVISION.split()),
    "timm": tuple(TIMM.split()),
    "transformers": tuple(TRANSFORMERS),
}

Example = Callable[[int, int], Any]
"""From the size of a batch and a seed to inputs as the model takes them."""


def build(library: str, name: str) -> tuple[nn.Module, Example]:
    """A model with random weights in eval mode, and its inputs.

    Args:
        library: A key of `LIBRARIES`.
        name: One of its models.

    Returns:
        The model, and what draws inputs.
    """
    torch.manual_seed(0)
    makers = {"torchvision": _torchvision, "timm": _timm, "transformers": _transformers}
    model, example = makers[library](name)
    return model.eval(), example


def _torchvision(name: str) -> tuple[nn.Module, Example]:
    import torchvision

    more = {"weights_backbone": None} if name.startswith(("fcn", "deeplab", "lraspp")) else {}
    start = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, **more, **start, **AUXILIARY.get(name, {}))
    return model, _images(SHAPES.get(name, (3, 224, 224)))


def _timm(name: str) -> tuple[nn.Module, Example]:
    import timm

    model = timm.create_model(name, pretrained=False)
    return model, _images(model.pretrained_cfg["input_size"])


def _transformers(name: str) -> tuple[nn.Module, Example]:
    import transformers

    kind, fields, takes = TRANSFORMERS[name]
    made = getattr(transformers, kind)
    config = made.config_class(**(_clip() if name == "CLIP" else fields))
    size = getattr(config, "image_size", 32) if takes == "image" else 32
    return made(config), _named(takes, size)


def _clip() -> dict[str, Any]:
    text = {key: value for key, value in TEXT.items() if key != "use_cache"}
    return {"text_config": text, "vision_config": IMAGE, "projection_dim": 48}


def _images(shape: tuple[int, ...]) -> Example:
    return lambda batch, seed: _noise((batch, *shape), seed)


def _named(takes: str, size: int) -> Example:
    def example(batch: int, seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(3, WORDS, (batch, LENGTH), generator=generator)
        text = {} if takes == "image" else {"input_ids": ids}
        return text if takes == "text" else {**text, "pixel_values": _noise((batch, 3, size, size), seed)}

    return example


def _noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
