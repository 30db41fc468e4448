"""The playroom: a small world of pictures whose whole truth is known."""
