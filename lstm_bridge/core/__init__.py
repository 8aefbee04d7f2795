"""The gate mathematics, written once, in MLX. Imports mlx and ``lstm_bridge.errors`` only."""
