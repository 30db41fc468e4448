"""The papers' experiments as data: configs/paper.py runs them."""
