"""Names, order, direction and colour of the models, splits and metrics in every report."""

from __future__ import annotations

from collections.abc import Iterable

from pisa.bench.row import METRICS

SPLITS = ("real", "sim_seen", "sim_unseen")  # the column order of the paper's Table 1
HIGHER_IS_BETTER = frozenset({"iou", "area_kept", "piece_share", "reward"})
LOWER_IS_BETTER = frozenset(
    {
        "l2", "chamfer", "time_error", "miss_rate", "spurious_rate", "split_rate",
        "colour_change", "texture_change", "background_change", "brightness_change",
        "high_frequency_change",
    }
)  # fmt: skip
TRUTH = "truth"
REFERENCES = (TRUTH, "frozen")  # rows that are no model's
_FIRST_MODELS = (*REFERENCES, "base", "psft")

_METRIC_LABELS = {
    "l2": "L2",
    "chamfer": "CD",
    "iou": "IoU",
    "time_error": "Time error (s)",
    "miss_rate": "Missed",
    "spurious_rate": "Spurious",
    "split_rate": "Split",
    "colour_change": "Colour change",
    "texture_change": "Texture change",
    "background_change": "Background change",
    "brightness_change": "Brightness change",
    "high_frequency_change": "Fine detail change",
    "area_kept": "Area kept",
    "piece_share": "Largest piece",
    "path_length": "Path",
    "g_m_s2": "g (m/s²)",
    "galileo": "Galileo ratio",
    "stage_change": "Change by stage",
    "diversity": "Diversity",
    "reward": "Reward",
}
METRIC_MEANINGS = {
    "l2": "distance between the object's centre in the generated and in the true clip, as a "
    "fraction of the picture's side, mean over frames",
    "chamfer": "Chamfer distance between the object's two shapes, in the same unit",
    "iou": "overlap of the object's two shapes, from 0 (none) to 1 (the same)",
    "time_error": "seconds between the object's impact and the true one",
    "miss_rate": "fraction of frames in which the object was not found",
    "colour_change": "how far the object's colours moved from frame 0, as a fraction of the range",
    "texture_change": "the same of the strength of the edges inside the object",
    "background_change": "mean colour difference to frame 0 where neither the object nor its "
    "shadow ever is",
    "brightness_change": "how far the whole picture became brighter or darker than frame 0, as a "
    "fraction of the range",
    "high_frequency_change": "how far the strength of the finest detail (grids, noise, blur) moved "
    "from frame 0, as a fraction of the range",
    "area_kept": "the object's area beside that in frame 0, 1 (the same) to 0 (gone)",
    "piece_share": "share of the object's largest connected piece",
    "path_length": "how far the object's centre travels, in diagonals of the picture",
    "g_m_s2": "acceleration of the fall, where camera and depth are known; 9.81 is right",
    "galileo": "accelerations of two objects that fall in one clip, divided; 1 is right",
    "stage_change": "mean difference to the video that the model before makes from the same noise, "
    "as a fraction of the range",
    "diversity": "the same between two videos of one model, from different noise",
    "reward": "of the video, by the reward that the methods were trained with",
}
SPLIT_MEANINGS = {
    "real": "filmed drops",
    "sim_seen": "simulated drops of objects that training used, in new scenes",
    "sim_unseen": "simulated drops of objects that training did not use",
    "id": "depths and heights within the range of training",
    "ood": "depths or heights outside the range of training",
}
_SPLIT_LABELS = {
    "real": "Real",
    "sim_seen": "Sim (seen)",
    "sim_unseen": "Sim (unseen)",
    "val_seen": "Validation (seen)",
    "val_unseen": "Validation (unseen)",
    "id": "In distribution",
    "ood": "Out of distribution",
}
_MODEL_LABELS = {
    TRUTH: "Ground truth",
    "frozen": "First frame held",
    "base": "Base",
    "psft": "PSFT",
    "more_psft": "PSFT, more steps",
    "best_of": "Best of several",
    "rejection": "PSFT + rejection sampling",
    "dpo": "PSFT + Flow-DPO",
    "nft": "PSFT + DiffusionNFT",
    "grpo": "PSFT + Flow-GRPO",
}
# Okabe-Ito hues, readable on light and dark and told apart with colour-vision deficiencies; then
# two of other lightness.
_COLOURS = (
    "#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#D55E00", "#0072B2", "#A39BFF", "#8C6D46",
)  # fmt: skip
_FIXED_COLOURS = {TRUTH: "#FFFFFF", "frozen": "#9AA0A6"}


def metric_label(metric: str) -> str:
    """As it heads a column; unknown names stay as they are."""
    return _METRIC_LABELS.get(metric, metric)


def metric_arrow(metric: str) -> str:
    """An arrow towards better, or nothing for a metric whose direction is unknown."""
    sign = direction(metric)
    return {1: "↑", -1: "↓", 0: ""}[sign]


def direction(metric: str) -> int:
    """1 where higher is better, -1 where lower is better, 0 where unknown."""
    return int(metric in HIGHER_IS_BETTER) - int(metric in LOWER_IS_BETTER)


def split_label(split: str) -> str:
    """As it heads a group of columns; unknown names stay as they are."""
    return _SPLIT_LABELS.get(split, split)


def model_label(model: str) -> str:
    """``oro_flow`` reads "PSFT + ORO (flow)"; unknown names stay as they are."""
    if model.startswith("oro_"):
        return f"PSFT + ORO ({model.removeprefix('oro_')})"
    return _MODEL_LABELS.get(model, model)


def order_models(models: Iterable[str]) -> list[str]:
    """Truth, frozen, base and PSFT first, the others after them in order of appearance."""
    return _in_order(models, _FIRST_MODELS)


def order_splits(splits: Iterable[str]) -> list[str]:
    """In the paper's order, unknown ones after them."""
    return _in_order(splits, SPLITS)


def order_metrics(metrics: Iterable[str]) -> list[str]:
    """In the paper's order, unknown ones after them."""
    return _in_order(metrics, METRICS)


def model_colours(models: Iterable[str]) -> dict[str, str]:
    """One hex colour per model; truth white and frozen grey (drawn with a dark outline)."""
    others = [model for model in order_models(models) if model not in _FIXED_COLOURS]
    varied = {model: _COLOURS[i % len(_COLOURS)] for i, model in enumerate(others)}
    return {**_FIXED_COLOURS, **varied}


def _in_order(names: Iterable[str], first: tuple[str, ...]) -> list[str]:
    seen = list(dict.fromkeys(names))
    return [n for n in first if n in seen] + [n for n in seen if n not in first]
