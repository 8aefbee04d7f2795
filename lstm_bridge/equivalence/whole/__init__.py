"""Whole models: their oracles, built from the source itself, and the verdict on them."""
