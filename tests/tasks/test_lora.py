"""LoRA on any denoiser: merged weights give the adapter's output, files hold what belongs there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file

from pisa.callbacks.checkpoints import ExportWeights
from pisa.callbacks.ema import EMA
from pisa.errors import PisaError
from pisa.models.lora import (
    AdaptedLinear,
    add_lora,
    exported_state,
    has_lora,
    linear_layers_of_blocks,
    merged_state,
    pipeline_adapters,
)
from pisa.tasks.oro import ORO
from pisa.tasks.psft import PSFT
from pisa.tasks.weights import load_denoiser, save_adapter, save_denoiser
from tests.models import tiny_ltx2, tiny_pipelines
from tests.tasks.test_oro import Similarity
from tests.tasks.test_psft import fit

CONFIGS = Path(__file__).parents[2] / "configs" / "model"


def model_of(name: str):
    torch.manual_seed(0)
    return instantiate(
        OmegaConf.load(CONFIGS / f"{name}.yaml"), **({"weights": None} if name == "tiny" else {})
    )


def randomised(denoiser):
    """B starts at zero; another value makes the adapter do something."""
    for name, parameter in denoiser.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return denoiser


def velocity(model, batch_size: int = 2):
    """Of a fixed input, with the output layer opened (it starts at zero)."""
    generator = torch.Generator().manual_seed(1)
    shape = model.latent_shape(16, 64, 64)
    x = torch.randn(batch_size, *shape, generator=generator)
    clean = torch.zeros(batch_size, shape[1], dtype=torch.bool)
    clean[:, 0] = True
    condition = model.encode_captions(["a video of an object dropping"] * batch_size)
    level = torch.tensor([0.3, 0.9])
    with torch.no_grad():
        return model.velocity(x, level, condition, clean, fps_hz=16.0)


def opened(model):
    last = getattr(model.denoiser, "colour", None) or model.denoiser.final_layer.linear
    torch.nn.init.normal_(last.weight, std=0.1)
    return model


@pytest.mark.parametrize("name", ["tiny", "opensora_tiny"])
def test_merged_weights_give_the_adapters_output(name):
    model = opened(model_of(name)).eval()
    base = velocity(model)
    plain = {k: v.clone() for k, v in model.denoiser.state_dict().items()}
    add_lora(model.denoiser, rank=4, alpha=8)
    torch.testing.assert_close(velocity(model), base)  # B is zero
    randomised(model.denoiser)
    adapted = velocity(model)
    assert (adapted - base).abs().max() > 1e-2
    merged = merged_state(exported_state(model.denoiser))
    assert merged.keys() == plain.keys()
    plain_model = opened(model_of(name)).eval()
    plain_model.denoiser.load_state_dict(merged)
    torch.testing.assert_close(velocity(plain_model), adapted, rtol=1e-4, atol=1e-5)
    changed = {k for k in plain if not torch.equal(plain[k], merged[k])}
    assert changed == {f"{k}.weight" for k in linear_layers_of_blocks(plain_model.denoiser)}


def task_of(kind: str, model):
    if kind == "psft":
        return PSFT(model, lr=1e-2)
    replay = kind == "oro replay"
    return ORO(model, Similarity(), lr=1e-2, num_steps=2, guidance=2.0, replay=replay)


TASKS = ("psft", "oro", "oro replay")


@pytest.mark.parametrize("kind", TASKS)
def test_only_the_adapter_is_trained_averaged_and_kept(tmp_path, kind):
    from tests.distributed.job import tiny_opensora

    model = tiny_opensora()
    base = {k: v.clone() for k, v in model.denoiser.state_dict().items()}
    add_lora(model.denoiser, rank=2, targets=["qkv"])
    export = tmp_path / "weights.safetensors"
    trainer = fit(task_of(kind, model), 3, callbacks=[EMA(0.5), ExportWeights(export)])
    assert all(
        torch.equal(value, base[name.replace(".base_layer.", ".")])
        for name, value in model.denoiser.state_dict().items()
        if ".lora_" not in name
    )
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    for part in ("state_dict", "ema_denoiser"):
        assert len(checkpoint[part]) == 8  # A and B of four blocks
        assert all(".lora_" in name for name in checkpoint[part])
    exported = load_file(export)
    assert all(torch.equal(exported[name], base[name]) for name in base)
    assert len(exported) == len(base) + 8 and merged_state(exported).keys() == base.keys()
    fresh = tiny_opensora()
    load_denoiser(fresh.denoiser, export)  # stage 2 and eval.py start from it
    adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert len(adapter) == 8
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["r"] == 2
    with pytest.raises(PisaError, match=r"weights\.safetensors of that run"):
        load_denoiser(fresh.denoiser, tmp_path / "last.ckpt")


def test_peft_reads_the_adapter(tmp_path):
    from peft import PeftModel

    from tests.distributed.job import tiny_opensora

    model = add_to(tiny_opensora(), tmp_path)
    expected = velocity(model)
    other = tiny_opensora().eval()
    PeftModel.from_pretrained(other.denoiser, tmp_path / "adapter")
    torch.testing.assert_close(velocity(other), expected)


def add_to(model, folder: Path):
    randomised(add_lora(model.denoiser, rank=2))
    save_adapter(folder / "adapter", model.denoiser)
    return model.eval()


@pytest.mark.parametrize("kind", TASKS)
def test_a_lora_run_resumes_bit_for_bit(tmp_path, kind):
    from tests.distributed.job import tiny_opensora

    def run(steps, ckpt=None):
        model = tiny_opensora()
        add_lora(model.denoiser, rank=2)
        trainer = fit(task_of(kind, model), steps, ckpt, callbacks=[EMA(0.9)], num_clips=7)
        return model.denoiser.state_dict(), trainer

    whole, _ = run(4)
    run(2)[1].save_checkpoint(tmp_path / "half.ckpt")
    resumed, _ = run(4, tmp_path / "half.ckpt")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    started = add_lora(tiny_opensora().denoiser, rank=2).state_dict()
    assert any(whole[name].ne(started[name]).any() for name in whole if ".lora_B." in name)


def test_mistakes():
    model = model_of("opensora_tiny")
    with pytest.raises(PisaError, match="cannot add LoRA"):
        add_lora(model.denoiser, rank=2, targets=["no_such_layer"])
    with pytest.raises(PisaError, match="no blocks"):
        linear_layers_of_blocks(torch.nn.Linear(2, 2))
    add_lora(model.denoiser, rank=2)
    assert has_lora(model.denoiser)
    with pytest.raises(PisaError, match="already"):
        add_lora(model.denoiser, rank=2)


def blocks(dtype: torch.dtype, layers: int = 2) -> torch.nn.Module:
    torch.manual_seed(0)
    network = torch.nn.Module()
    network.blocks = torch.nn.ModuleList([torch.nn.Linear(256, 256) for _ in range(layers)])
    return network.to(dtype)


def outputs(network: torch.nn.Module, autocast: bool) -> torch.Tensor:
    x = torch.randn(8, 256, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return torch.stack([layer(x.to(layer.weight.dtype)) for layer in network.blocks])


@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [(torch.float32, False), (torch.float32, True), (torch.bfloat16, False)],
)
def test_the_next_stage_starts_from_every_bit_of_a_small_adapter(tmp_path, dtype, autocast):
    """Added into weights that are rounded to bfloat16 most of it would be lost."""
    files = [tmp_path / "psft.safetensors", tmp_path / "oro.safetensors"]
    trained, start = blocks(dtype), outputs(blocks(dtype), autocast)
    for file in files:
        add_lora(trained, rank=8, alpha=16, targets=None if file is files[0] else ["1"])
        adapters = [p for p in trained.parameters() if p.requires_grad]
        assert {p.dtype for p in adapters} == {torch.float32}
        for name, parameter in trained.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(parameter, std=1e-4)
        expected = outputs(trained, autocast)
        save_denoiser(file, exported_state(trained), {})
        trained = blocks(dtype)  # the base model again, as the next stage builds it
        load_denoiser(trained, file)
        assert torch.equal(outputs(trained, autocast), expected)
    assert not torch.equal(expected, start)
    assert [len(layer.ups) for layer in trained.blocks] == [1, 2]
    load_denoiser(trained, files[0])  # eval.py scores one after another
    assert [len(layer.ups) for layer in trained.blocks] == [1, 1]
    save_denoiser(files[0], exported_state(blocks(dtype)), {})
    load_denoiser(trained, files[0])
    assert not any(isinstance(m, AdaptedLinear) for m in trained.modules())
    assert torch.equal(outputs(trained, autocast), start)


def test_merging_into_bfloat16_weights_keeps_the_whole_adapter():
    network = add_lora(blocks(torch.bfloat16, layers=1), rank=8)
    (layer,) = network.blocks
    torch.nn.init.normal_(layer.lora_B["default"].weight, std=1e-4)
    added = (layer.lora_B["default"].weight @ layer.lora_A["default"].weight).detach()
    exported = exported_state(network)
    assert exported["blocks.0.weight"].dtype == torch.bfloat16
    merged = merged_state(exported)["blocks.0.weight"]
    error = merged - exported["blocks.0.weight"].float() - added
    assert error.norm() < 1e-3 * added.norm()
    rounded = merged.bfloat16().float() - exported["blocks.0.weight"].float() - added
    assert rounded.norm() > 0.5 * added.norm()  # what the next stage must not start from


def test_small_steps_move_every_number_of_an_adapter_on_a_bfloat16_base():
    network = torch.nn.Module()
    network.blocks = torch.nn.ModuleList([torch.nn.Linear(64, 64, dtype=torch.bfloat16)])
    add_lora(network, rank=4)
    (down,) = [p for n, p in network.named_parameters() if ".lora_A." in n]
    before = down.detach().clone()
    optimiser = torch.optim.AdamW([down], lr=1e-5, weight_decay=0.0)
    for _ in range(3):
        down.grad = torch.ones_like(down)
        optimiser.step()
    assert (down != before).all()


DIFFUSERS, COMFYUI = "pytorch_lora_weights.safetensors", "comfyui.safetensors"


@pytest.mark.parametrize(
    ("make", "file"),
    [
        (tiny_pipelines.wan, DIFFUSERS),
        (tiny_pipelines.wan, COMFYUI),
        (tiny_pipelines.cogvideox, DIFFUSERS),
        (tiny_pipelines.ltx, DIFFUSERS),
        (tiny_pipelines.ltx, COMFYUI),
        (tiny_ltx2.ltx2, DIFFUSERS),
        (tiny_ltx2.ltx2, COMFYUI),
    ],
)
def test_diffusers_loads_the_exported_adapter(tmp_path, make, file):
    """All tensors arrive, and every layer's output is that of the trained one (alpha included).

    diffusers reads ComfyUI's names too, by a translation of its own: that is the round trip.
    """
    trained = make()
    randomised(add_lora(trained.transformer, rank=4, alpha=8))
    save_adapter(tmp_path, trained.transformer)
    fresh = make()
    fresh.load_lora_weights(tmp_path, weight_name=file)
    assert_same_layers(fresh.transformer, trained.transformer)


@pytest.mark.parametrize(
    "files",
    [
        (DIFFUSERS, "pytorch_lora_weights_2.safetensors"),
        ("comfyui_high_noise.safetensors", "comfyui_low_noise.safetensors"),
    ],
)
def test_the_experts_of_wan_2_2_are_exported_apart(tmp_path, files):
    trained = tiny_pipelines.wan("a14b")
    experts = torch.nn.Module()
    experts.high, experts.low = trained.transformer, trained.transformer_2
    randomised(add_lora(experts, rank=4))
    save_adapter(tmp_path, experts)
    fresh = tiny_pipelines.wan("a14b")
    fresh.load_lora_weights(tmp_path, weight_name=files[0])
    fresh.load_lora_weights(tmp_path, weight_name=files[1], load_into_transformer_2=True)
    assert_same_layers(fresh.transformer, trained.transformer)
    assert_same_layers(fresh.transformer_2, trained.transformer_2)


def assert_same_layers(loaded, trained) -> None:
    ours, theirs = dict(trained.named_modules()), dict(loaded.named_modules())
    layers = [name for name, module in ours.items() if hasattr(module, "lora_A")]
    assert layers and all(hasattr(theirs[name], "lora_A") for name in layers)
    for name in layers:
        x = torch.randn(3, ours[name].base_layer.in_features)
        with torch.no_grad():
            torch.testing.assert_close(theirs[name](x), ours[name](x), rtol=1e-4, atol=1e-5)


def test_comfyui_finds_the_layers_of_wan_by_their_own_names():
    """ComfyUI takes diffusion_model.LAYER of the released checkpoint (comfy/ldm/wan/model.py)."""
    network = tiny_pipelines.wan().transformer
    files = pipeline_adapters(add_lora(network, rank=2))
    released = [f"{kind}.{x}" for kind in ("self_attn", "cross_attn") for x in "qkvo"]
    released += ["cross_attn.k_img", "cross_attn.v_img", "ffn.0", "ffn.2"]
    layers = [f"blocks.{i}.{layer}" for i in range(len(network.blocks)) for layer in released]
    layers += ["img_emb.proj.1", "img_emb.proj.3"]
    names = [f"diffusion_model.{layer}.lora_{part}.weight" for layer in layers for part in "AB"]
    assert set(files[COMFYUI]) == set(names)


def test_other_networks_have_no_files_for_pipelines():
    from tests.distributed.job import tiny_opensora

    assert not pipeline_adapters(add_lora(tiny_opensora().denoiser, rank=2))
    assert set(pipeline_adapters(add_lora(tiny_pipelines.cogvideox().transformer, 2))) == {
        DIFFUSERS
    }
