"""Weights of others in, ours out."""

from rlhfv_jax.convert.export import export_weights
from rlhfv_jax.convert.load import import_weights

__all__ = ['export_weights', 'import_weights']
