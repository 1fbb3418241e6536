"""Open-Sora v1.2, written here; names and shapes of its tensors are those of the release."""

from pisa.models.opensora.stdit3 import STDiT3
from pisa.models.opensora.temporal_vae import TemporalVAE
from pisa.models.opensora.vae import OpenSoraVAE

__all__ = ["OpenSoraVAE", "STDiT3", "TemporalVAE"]
