"""A trained run as a model on the Hugging Face Hub, or as a folder that looks like one.

`pisa hub RUN_DIR` writes ``RUN_DIR/model``: the weights under the names of the base model (for
Open-Sora those of its release), a model card, the configuration and the metrics.
`pisa hub RUN_DIR OWNER/NAME` also uploads it, with the token of `hf auth login` or HF_TOKEN.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError

from pisa.errors import PisaError, reason
from pisa.io.files import replace_folder
from pisa.io.secrets import redacted
from pisa.io.weights import read, read_metadata, save
from pisa.launch.runs import WEIGHTS
from pisa.models.lora import merged_state
from pisa.reports.metrics_json import read_metrics
from pisa.reports.table import markdown_table

RELEASE_NAME = "model.safetensors"  # what loaders of the Hub look for first
METRICS, CONFIG = "metrics.json", "config.yaml"


def export_model(run: Path) -> Path:
    """Write ``run/model``; returns it.

    Raises:
        PisaError: the run has no weights, or the folder cannot be written.
    """
    weights = run / WEIGHTS
    if not weights.is_file():
        raise PisaError(f"{run} has no {WEIGHTS}: is it the folder of a finished run?")
    folder = run / "model"
    with replace_folder(folder) as part:
        save(part / RELEASE_NAME, merged_state(read([weights])), read_metadata(weights))
        if (run / METRICS).is_file():
            shutil.copyfile(run / METRICS, part / METRICS)
        if (run / CONFIG).is_file():
            text = yaml.safe_dump(_settings(run / CONFIG), sort_keys=False)
            (part / CONFIG).write_text(text, encoding="utf-8")
        if (run / "adapter").is_dir():
            shutil.copytree(run / "adapter", part / "adapter")
        (part / "README.md").write_text(str(model_card(run)), encoding="utf-8")
    return folder


def push_to_hub(run: Path, repository: str, *, private: bool = True) -> str:
    """Export the run and upload it; returns the address of the commit.

    Raises:
        PisaError: no weights, no access, or no network.
    """
    folder = export_model(run)
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message=f"Upload {run.name}"
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise PisaError(f"cannot upload to {repository}: {reason(error)}") from error
    return str(commit)


def model_card(run: Path) -> ModelCard:
    """The model card: description, scores with counts and intervals, configuration."""
    config = run / CONFIG
    settings = _settings(config) if config.is_file() else {}
    name = str(settings.get("name", run.name))
    base = _base_model(settings)
    data = ModelCardData(
        library_name="pytorch",
        base_model=base,
        pipeline_tag="image-to-video",
        tags=["physics", "post-training", "rectified-flow", name],
    )
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name}",
        "Denoiser of an image-to-video model, post-trained on falling objects.",
        "## Use",
        *_uses(run / "adapter", base),
        "## Scores",
        *_scores(run / "metrics.json"),
        "## Configuration",
        f"```yaml\n{yaml.safe_dump(settings, sort_keys=False).strip()}\n```"
        if config.is_file()
        else "Not recorded.",
    ]
    return ModelCard("\n\n".join(parts) + "\n")


def _base_model(settings: dict[str, Any]) -> str | None:
    """The repository of the base model; None for one that is no repository."""
    model = settings.get("model")
    source = (model.get("repository") or model.get("denoiser")) if isinstance(model, dict) else None
    return source if isinstance(source, str) and source.count("/") == 1 else None


def _uses(adapter: Path, base: str | None) -> list[str]:
    """How the weights, and the files of the LoRA adapter that are there, are loaded."""
    lines = [
        f"`{RELEASE_NAME}` is the whole denoiser under the tensor names of the base model; "
        f"`python eval.py ckpt={RELEASE_NAME}` with the model settings below scores it."
    ]
    files = {path.name for path in adapter.glob("*.safetensors")}
    if not files:
        return lines
    lines.append(
        "`adapter/` is the last stage's LoRA adapter, which is merged in it: for the weights that "
        "this stage started from. peft: "
        '`PeftModel.from_pretrained(denoiser, "adapter")`.'
    )
    if "pytorch_lora_weights.safetensors" in files:
        second = "pytorch_lora_weights_2.safetensors"
        code = [
            "from diffusers import DiffusionPipeline",
            "",
            f'pipe = DiffusionPipeline.from_pretrained("{base or "BASE_MODEL"}")',
            'pipe.load_lora_weights("adapter", weight_name="pytorch_lora_weights.safetensors")',
        ]
        if second in files:
            code += [
                "# the expert for low noise",
                f'pipe.load_lora_weights("adapter", weight_name="{second}", '
                "load_into_transformer_2=True)",
            ]
        lines.append("diffusers:\n\n```python\n" + "\n".join(code) + "\n```")
    if "comfyui.safetensors" in files:
        lines.append(
            "ComfyUI: put `adapter/comfyui.safetensors` into `models/loras` and apply it to the "
            "model with the node LoraLoaderModelOnly, strength 1."
        )
    if "comfyui_high_noise.safetensors" in files:
        lines.append(
            "ComfyUI: put `adapter/comfyui_high_noise.safetensors` and "
            "`adapter/comfyui_low_noise.safetensors` into `models/loras`; a node "
            "LoraLoaderModelOnly (strength 1) applies the first to the high-noise model, another "
            "the second to the low-noise model."
        )
    return lines


def _settings(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise PisaError(f"{path}: cannot read: {reason(error)}") from error
    if not isinstance(loaded, dict):
        raise PisaError(f"{path}: is not the configuration of a run")
    return redacted(loaded)


def _scores(path: Path) -> list[str]:
    if not path.is_file():
        return ["This run was not scored."]
    metrics = read_metrics(path)
    origin = f"Protocol `{metrics['protocol']}`, commit `{metrics['provenance']['commit']}`."
    return [origin, markdown_table(metrics).strip()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("repository", nargs="?", help="OWNER/NAME to upload to")
    parser.add_argument("--public", action="store_true")


def main(given: argparse.Namespace) -> None:
    """Export the run, and upload it where a repository is named."""
    if given.repository is None:
        print(export_model(given.run))
    else:
        print(push_to_hub(given.run, given.repository, private=not given.public))
