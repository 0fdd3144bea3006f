"""Archipel: federated learning for medical imaging. Each hospital is an island: its images never leave."""
__version__ = "0.1.0"
