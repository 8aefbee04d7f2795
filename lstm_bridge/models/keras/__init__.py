"""Keras configurations and their weights become running models."""
