"""Frozen, differentiable teachers: object tracking, optical flow and relative inverse depth."""
