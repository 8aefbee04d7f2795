"""Whole files: inspected, planned, converted, written to a folder and loaded from it."""
