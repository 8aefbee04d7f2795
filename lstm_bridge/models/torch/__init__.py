"""torch modules and TorchScript files become running models."""
