"""The paper's figures and tables from saved results: ``python -m pisa.reports figure8 ...``."""
