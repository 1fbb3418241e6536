"""Results for people: metrics.json, tables, figures and one self-contained HTML page."""
