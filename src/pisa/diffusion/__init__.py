"""Rectified flow: the path, noise levels and samplers that carry gradient."""
