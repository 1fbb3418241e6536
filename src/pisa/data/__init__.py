"""Clips on disk and the data modules that feed them to training and evaluation."""
