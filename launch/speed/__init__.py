"""The benchmark that a reader can repeat: python -m launch.speed"""
