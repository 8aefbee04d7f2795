"""The proof that the harness works: every known mistake made on purpose, and inputs at extremes."""
