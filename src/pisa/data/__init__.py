"""Clips on disk and the data modules that feed them to training and evaluation."""

from pisa.data.ambiguous import AmbiguousDataModule
from pisa.data.clip_io import read_clip, write_clip
from pisa.data.dataset import ClipDataset
from pisa.data.manifest import Manifest, data_sha256, list_clips, write_manifest
from pisa.data.real import RealDataModule
from pisa.data.simulated import SimulatedDataModule
from pisa.data.step_sampler import StepSampler

__all__ = [
    "AmbiguousDataModule",
    "ClipDataset",
    "Manifest",
    "RealDataModule",
    "SimulatedDataModule",
    "StepSampler",
    "data_sha256",
    "list_clips",
    "read_clip",
    "write_clip",
    "write_manifest",
]
