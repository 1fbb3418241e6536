"""The local page of ``annotate.py``, on NiceGUI; bound to loopback, and nothing leaves it."""
