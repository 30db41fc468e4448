"""A run on GKE: the manifest of a JobSet, and who hands it to kubectl."""
