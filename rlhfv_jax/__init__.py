"""Aligning multimodal LLMs with segment-level corrections, in JAX."""

__version__ = '0.1.0'
