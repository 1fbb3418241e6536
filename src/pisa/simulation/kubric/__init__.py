"""Clips by Kubric and Blender.

`worker`, `render`, `look` and `fixes` run inside the renderer's own environment (`make kubric-env`:
another numpy, no torch) and import nothing of this package but each other. `simulator`,
`description`, `hdris` and `process` run in the main environment and talk to them in JSON.
"""
