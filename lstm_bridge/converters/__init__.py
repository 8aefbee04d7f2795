"""Names → meaning: one file per dialect, each a table from its parameters to canonical slots."""
