"""The paper's figures and tables from saved results: ``pisa figure8 ...``."""
