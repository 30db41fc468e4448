"""Annotate: people correct an answer, and the edit is the annotation."""
