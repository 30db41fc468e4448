"""Builders of TFDS data sets that need no TensorFlow."""
