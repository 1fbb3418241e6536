"""Physics post-training of video diffusion models on falling objects (the PISA paper)."""

__version__ = "0.1.0"
