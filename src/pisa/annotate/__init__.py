"""Benchmark clips from one's own recordings (paper section 3.1, Appendix H); no interface in here.

``pisa.annotate.page`` is the local page over it; ``docs/guide/annotate.md`` says how it is used.
"""
