"""What is minimised: pure functions of log-probs, roles and numbers."""
